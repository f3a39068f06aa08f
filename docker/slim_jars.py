"""Drop from a folder's jars the native libraries of other systems, and the jars that hold nothing else.

python slim_jars.py FOLDER
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

OTHER = re.compile(r"darwin|osx|mac|win|freebsd|aix|sunos|musl|android|ppc|s390|riscv|loongarch|sparc|mips|linux32")
NATIVE = (".so", ".dll", ".jnilib", ".dylib", ".a")


def slim(jar: Path) -> None:
    """Write a jar anew without what only other systems load."""
    with zipfile.ZipFile(jar) as source:
        entries = source.infolist()
        kept = [
            item for item in entries if not (item.filename.endswith(NATIVE) and OTHER.search(item.filename.lower()))
        ]
        if len(kept) == len(entries):
            return
        smaller = jar.with_suffix(".new")
        with zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as target:
            for item in kept:
                target.writestr(item, source.read(item))
    smaller.replace(jar)


if __name__ == "__main__":
    for path in Path(sys.argv[1]).glob("*.jar"):
        if re.search(r"-(osx|windows)-", path.name):  # Netty has a jar for each system
            path.unlink()
        else:
            slim(path)
