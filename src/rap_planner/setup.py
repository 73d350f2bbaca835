from setuptools import find_packages, setup

PACKAGE = "rap_planner"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Proposals to trajectory, and the guard that stands between them and the vehicle.",
    license="Apache-2.0",
    maintainer="RAP maintainers",
    maintainer_email="maintainers@example.org",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=[
        "numpy>=1.26",
        "rap_inference",
        "rap_raster",
    ],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "planner_node = rap_planner.ros.planner_node:main",
            "guard_node = rap_planner.ros.guard_node:main",
        ],
    },
)
