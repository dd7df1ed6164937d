"""A Python program with something to find. See zoo.ts for what it reads and prints."""

import mmap
import os
import sys
import time

held = []


def decoded(coded):
    return bytes(byte ^ 0x5A for byte in bytes.fromhex(coded))


def in_mmap(coded):
    mapping = mmap.mmap(-1, 4096)
    for index, byte in enumerate(bytes.fromhex(coded)):
        mapping[index] = byte ^ 0x5A
    return mapping


def in_bytearray(coded):
    array = bytearray(len(coded) // 2)
    for index, byte in enumerate(bytes.fromhex(coded)):
        array[index] = byte ^ 0x5A
    return array


PLACES = {
    "python-str": lambda coded: decoded(coded).decode("latin-1"),
    "python-bytearray": in_bytearray,
    "python-mmap": in_mmap,
}

for line in sys.stdin:
    place, coded = line.split()
    held.append(PLACES[place](coded))
    print(place, os.getpid())
print("ready", flush=True)
time.sleep(3600)
