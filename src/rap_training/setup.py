from setuptools import find_packages, setup

PACKAGE = "rap_training"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Offline: augmentation, model, training and export.",
    license="Apache-2.0",
    maintainer="RAP maintainers",
    maintainer_email="maintainers@example.org",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "presets/*/*.yaml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=[
        "numba",
        "numpy>=1.26",
        "pyarrow",
        "pydantic>=2",
        "PyYAML",
        "rap_bringup",
        "rap_evaluation",
        "rap_inference",
        "rap_perception",
        "rap_planner",
        "rap_raster",
        "rich",
        "scipy",
        "shapely",
        "typer",
    ],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "rap-train = rap_training.cli:main",
        ],
    },
)
