"""Makes a folder that is encrypted by fscrypt and takes its key away again: locked-folder.py DIR.

DIR is on an ext4 made with `-O encrypt`. Numbers of linux/fscrypt.h.
"""
import fcntl, os, struct, sys

ADD_KEY, SET_POLICY, REMOVE_KEY = 0xC0506617, 0x800C6613, 0xC0406618
BY_IDENTIFIER = 2

top = sys.argv[1]
mount = os.open(top, os.O_RDONLY)
argument = bytearray(struct.pack("<II32x", BY_IDENTIFIER, 0) + struct.pack("<III28x", 64, 0, 0) + os.urandom(64))
fcntl.ioctl(mount, ADD_KEY, argument)
identifier = bytes(argument[8:24])

os.mkdir(os.path.join(top, "locked"))
locked = os.open(os.path.join(top, "locked"), os.O_RDONLY)
fcntl.ioctl(locked, SET_POLICY, struct.pack("<BBBBB3x16s", 2, 1, 4, 3, 0, identifier))
os.close(locked)
os.mkdir(os.path.join(top, "locked/below"))
for name in ("locked/secret", "locked/below/deeper"):
    with open(os.path.join(top, name), "w") as f:
        f.write("ciphertext on the disk")
with open(os.path.join(top, "open"), "w") as f:
    f.write("x")
os.sync()
fcntl.ioctl(mount, REMOVE_KEY, bytearray(struct.pack("<II", BY_IDENTIFIER, 0) + identifier + bytes(40)))
