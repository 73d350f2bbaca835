from setuptools import find_packages, setup

PACKAGE = "rap_bringup"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Launch files, parameters, the default model, the demo drive and the rap command.",
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
    # OpenCV is missing on purpose: any of opencv-python, -headless or the distribution's will do.
    install_requires=[
        "numpy>=1.26",
        "pydantic>=2",
        "PyYAML",
        "rap_inference",
        "rap_perception",
        "rap_planner",
        "rap_raster",
        "rich",
        "rosbags",
        "shapely",
        "typer",
    ],
    extras_require={
        "argoverse2": ["pyarrow"],
        "test": ["pytest"],
        "viewer": ["rerun-sdk"],
    },
    zip_safe=False,
)
