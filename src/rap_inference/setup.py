from setuptools import find_packages, setup

PACKAGE = "rap_inference"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="The model bundle and the backends that run its networks.",
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
        "pydantic>=2",
        "PyYAML",
    ],
    extras_require={
        "cpu": ["onnxruntime"],
        "gpu": ["onnxruntime-gpu"],
        "tensorrt": ["tensorrt"],
        "tensorrt-rtx": ["tensorrt-rtx"],
        "test": ["pytest"],
    },
    zip_safe=False,
)
