from setuptools import find_packages, setup

PACKAGE = "rap_evaluation"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Offline: logs, traffic, closed loop, metrics and reports.",
    license="Apache-2.0",
    maintainer="RAP maintainers",
    maintainer_email="maintainers@example.org",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "closed_loop/report.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    # OpenCV is missing on purpose: any of opencv-python, -headless or the distribution's will do.
    install_requires=[
        "jinja2",
        "msgpack",
        "numba",
        "numpy>=1.26",
        "pyarrow",
        "pydantic>=2",
        "rap_bringup",
        "rap_inference",
        "rap_perception",
        "rap_planner",
        "rap_raster",
        "rich",
        "scipy",
        "shapely",
        "typer",
    ],
    extras_require={"test": ["pytest"], "traffic": ["eclipse-sumo", "libsumo"], "cluster": ["ray"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "rap-evaluate = rap_evaluation.cli:main",
            "sim_node = rap_evaluation.ros.sim_node:main",
        ],
    },
)
