from setuptools import find_packages, setup

PACKAGE = "rap_raster"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Scenes, cameras, maps, the 3D rasterizer and aligned features.",
    license="Apache-2.0",
    maintainer="RAP maintainers",
    maintainer_email="maintainers@example.org",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "style_files/*.yaml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    # OpenCV is missing on purpose: any of opencv-python, -headless or the distribution's will do.
    install_requires=[
        "numba",
        "numpy>=1.26",
        "pydantic>=2",
        "PyYAML",
        "rap_inference",
        "scipy",
        "shapely",
        "typer",
    ],
    extras_require={"test": ["pytest"], "warp": ["warp-lang>=1.19"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "rap-raster = rap_raster.cli:main",
            "raster_node = rap_raster.ros.raster_node:main",
            "map_node = rap_raster.ros.map_node:main",
        ],
    },
)
