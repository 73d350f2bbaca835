from setuptools import find_packages, setup

PACKAGE = "rap_perception"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Camera images, time synchronisation, ego history and tracked objects.",
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
        "rap_inference",
        "rap_raster",
        "scipy",
    ],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "perception_node = rap_perception.ros.perception_node:main",
        ],
    },
)
