"""Prints pins for everything that pip put into this environment.

`make lock` writes them to `requirements/lock.txt`, the constraint file of all requirement files.
Raise a version by editing its requirement file, then `make setup` and `make lock`.
"""

from __future__ import annotations

from importlib import metadata

HEADER = """\
# Written by `make lock`. All versions of .venv, those that only other packages ask for included;
# what a CUDA build of torch brings is pinned by torch itself."""
# With Python, in this repository, or torch's.
LEFT_OUT = ("pip", "rap-", "rap_", "cuda-", "nvidia-", "triton")


def pins() -> list[str]:
    """Returns `name==version` of every distribution that pip installed, sorted.

    The ROS wheels carry metadata of their own parts besides the wheel's; those have no INSTALLER
    and cannot be asked of an index. Build labels such as `+cpu` are the machine's choice.
    """
    found = {
        f"{distribution.name}=={distribution.version.split('+')[0]}"
        for distribution in metadata.distributions()
        if distribution.read_text("INSTALLER") and not distribution.name.startswith(LEFT_OUT)
    }
    return sorted(found, key=str.lower)


if __name__ == "__main__":
    print("\n".join([HEADER, *pins()]))
