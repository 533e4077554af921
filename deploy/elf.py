"""Says of a program what it runs on: the machine as Rust calls it, the architecture as Debian and Docker call it, and whether
it is static, so that it runs without a library of the system."""

import struct
import sys

MACHINES = {62: ("x86_64", "amd64"), 183: ("aarch64", "arm64")}
INTERPRETER = 3


def look(path: str) -> tuple[str, str, str]:
    with open(path, "rb") as file:
        data = file.read(1 << 16)
    if data[:4] != b"\x7fELF" or data[4:6] != b"\x02\x01":
        raise SystemExit(f"{path} is no 64-bit little-endian ELF file: only those are packed")
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine not in MACHINES:
        raise SystemExit(f"{path} is for the ELF machine {machine}; known are {sorted(MACHINES)}: add it to {__file__}")
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    kinds = {struct.unpack_from("<I", data, offset + number * size)[0] for number in range(count)}
    return (*MACHINES[machine], "dynamic" if INTERPRETER in kinds else "static")


if __name__ == "__main__":
    print(*look(sys.argv[1]))
