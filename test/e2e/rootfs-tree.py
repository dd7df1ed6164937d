"""The other side of the rootfs tests, without a line of exhibit's: makes trees, changes them, lists them, applies layers.

rootfs-tree.py lower DIR SEED | mutate DIR SEED COUNT | hostile DIR | snapshot DIR | apply LAYER.tar DIR | times DIR | headers LAYER.tar
"""
import hashlib, json, os, random, shutil, socket, stat, struct, subprocess, sys, tarfile


def content(r):
    return r.randbytes(r.choice([0, 1, 511, 512, 513, 4096, 70000]))


def lower(top, seed):
    r = random.Random(seed)
    os.makedirs(top, exist_ok=True)
    dirs = [top]
    for i in range(12):
        dirs.append(os.path.join(r.choice(dirs), "d%d" % r.randrange(6)))
        os.makedirs(dirs[-1], exist_ok=True)
    for i in range(40):
        path = os.path.join(r.choice(dirs), "f%d" % r.randrange(15))
        if os.path.lexists(path):
            continue
        if r.random() < 0.15:
            os.symlink("f%d" % r.randrange(15), path)
            continue
        with open(path, "wb") as f:
            f.write(content(r))
        os.chmod(path, r.choice([0o644, 0o600, 0o755, 0o4755]))
        os.utime(path, ns=(10**18 + i, r.randrange(10**18)))


def entries(top):
    dirs, files = [top], []
    for at, ds, fs in os.walk(top):
        dirs += [os.path.join(at, d) for d in ds if not os.path.islink(os.path.join(at, d))]
        files += [os.path.join(at, f) for f in fs + [d for d in ds if os.path.islink(os.path.join(at, d))]]
    return sorted(dirs), sorted(files)


def regular(path):
    return stat.S_ISREG(os.lstat(path).st_mode)


def mutate(top, seed, count):
    r = random.Random(seed)
    for i in range(int(count)):
        dirs, files = entries(top)
        real = [f for f in files if regular(f)]
        new = os.path.join(r.choice(dirs), r.choice(["n%d" % i, "f%d" % r.randrange(15), "d%d" % r.randrange(6), "long" + "x" * 240, "ä%d" % i, "sp ace\nline%d" % i]))
        new = os.fsencode(new) + (b"\xff" if r.random() < 0.05 else b"")
        free = not os.path.lexists(new)
        what = r.randrange(17)
        if what == 0 and free:
            open(new, "wb").write(content(r))
        elif what == 1 and free:
            os.mkdir(new)
        elif what == 2 and free:
            os.symlink(os.fsencode(r.choice(["gone", "/etc/passwd", "x" * 300])), new)
        elif what == 3 and free and real:
            os.link(r.choice(real), new)
        elif what == 4 and free:
            os.mkfifo(new)
        elif what == 5 and free:
            os.mknod(new, 0o600 | r.choice([stat.S_IFCHR, stat.S_IFBLK]), os.makedev(r.randrange(1, 300), r.randrange(70000)))
        elif what == 6 and real:  # the edit that containerd's diff does not see
            path = r.choice(real)
            was = os.lstat(path)
            if was.st_size:
                with open(path, "r+b") as f:
                    f.write(b"!")
                os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        elif what == 7 and real:
            open(r.choice(real), "ab").write(b"more")
        elif what == 8 and files:
            path = r.choice(files)
            os.lchown(path, r.randrange(400000), r.randrange(4000000))
        elif what == 9 and real:
            os.chmod(r.choice(real + dirs), r.choice([0o700, 0o6755, 0o1777, 0]))
        elif what == 10 and files:
            os.utime(r.choice(files), ns=(1, r.randrange(-(10**18), 10**19)), follow_symlinks=False)
        elif what == 11 and real:
            name = r.choice(["user.bin", "user.ünï", "trusted.mine", "user.empty", "user.a=b%"])
            os.setxattr(r.choice(real + dirs), name, b"" if name == "user.empty" else r.randbytes(r.randrange(200)))
        elif what == 12 and files:
            os.unlink(r.choice(files))
        elif what == 13 and len(dirs) > 1:
            shutil.rmtree(r.choice(dirs[1:]))
        elif what == 14 and len(dirs) > 1:
            path = r.choice(dirs[1:])
            shutil.rmtree(path)
            os.mkdir(path)
            open(os.path.join(path, "again"), "w").write("x")
        elif what == 15 and free and files:
            os.rename(os.fsencode(r.choice(files)), new)
        elif what == 16 and free and len(dirs) > 1:
            path = os.fsencode(r.choice(dirs[1:]))
            if not new.startswith(path + b"/"):
                rename(path, new, r.random() < 0.5)


def rename(old, new, copy):
    try:
        os.rename(old, new)
    except OSError:  # EXDEV: a lower directory without redirect_dir
        if copy:
            subprocess.run(["mv", "-T", old, new], check=True)


def acl(*entries):
    """acl(5) as its attribute has it: version 2, then (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
ACCESS = acl((1, 6, NOBODY), (2, 4, 400001), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
# capabilities(7): revision 2, effective, CAP_NET_RAW and CAP_SYS_ADMIN permitted.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13 | 1 << 21, 0, 0, 0)


def hostile(top):
    """Through the mount, what somebody who wants an archive to go wrong leaves behind. The lower layers are those of `lower`."""
    os.chdir(top)
    dirs, files = entries(".")
    os.mkdir("hostile")
    os.chdir("hostile")
    for name in [b"-rf", b"--help", b" ", b"...", b"a\nb", b"\x1b[31mred\x1b[0m", b"\xff\xfe", b"\xc3(", b"back\\slash", b"q\"uo'te", b"*?[x]", b"x" * 255, "ü".encode() * 127,
                 b"tab\there", b"%2e%2e", b"a=b", b"con|pipe", b"PaxHeaders", b"./@LongLink".replace(b"/", b"_"), b"lost+found", b"\xe2\x80\xaegnp.exe"]:
        open(name, "wb").write(name)
    deep = os.getcwd()
    for i in range(14):
        os.mkdir("%02d" % i + "d" * 98)
        os.chdir("%02d" % i + "d" * 98)
    open("bottom", "w").write("deep")
    os.symlink("l" * 4000, "longlink")
    os.chdir(deep)
    for name, target in [("dotdot", "../../../../../../etc/passwd"), ("loop-a", "loop-b"), ("loop-b", "loop-a"), ("self", "self"), ("top", "/"), ("proc", "/proc/self/exe"),
                         (b"odd", b"\xff\n\x1b[2J"), ("slash", "hostile/")]:
        os.symlink(target, name)
    os.mkfifo("fifo")
    socket.socket(socket.AF_UNIX).bind("socket")
    for name, kind, numbers in [("null", stat.S_IFCHR, (1, 3)), ("watchdog", stat.S_IFCHR, (10, 130)), ("disk", stat.S_IFBLK, (8, 0)), ("big", stat.S_IFBLK, (4095, 1048575)), ("chr0", stat.S_IFBLK, (0, 0))]:
        os.mknod(name, 0o600 | kind, os.makedev(*numbers))
    for name, mode in [("suid", 0o4755), ("sgid", 0o2711), ("sticky", 0o1777), ("none", 0), ("all", 0o7777)]:
        open(name, "w").write(name)
        os.chown(name, 2**32 - 2, 262144)
        os.chmod(name, mode)
    os.mkdir("closed", 0)
    os.mkdir("empty", 0o1777)
    for name, time in [("old", -(2**31) * 10**9 - 1), ("epoch", 0), ("y2038", 2**31 * 10**9 + 1), ("y2242", 2**33 * 10**9 + 123456789), ("nano", 1700000000 * 10**9 + 1)]:
        open(name, "w").write(name)
        os.utime(name, ns=(time, time))
    for size, name in [(2**26 + 5, "sparse"), (2**21, "all-hole")]:
        with open(name, "wb") as f:
            f.truncate(size)
            if name == "sparse":
                f.seek(2**25)
                f.write(b"needle")
    os.mkdir("links")
    open("links/a", "w").write("one inode")
    os.link("links/a", "links/b")
    os.link("links/a", "before")
    os.link("fifo", "links/fifo")
    os.link("loop-a", "links/loop")
    os.link("null", "links/null")
    open("attributes", "w").write("x")
    for name, value in [("user.text", b"v"), ("user.empty", b""), ("user.bin", bytes(range(256))), ("user.nl", b"a\nb=c\n"), ("user.%3D", b"percent"), ("user.a=b", b"equals"), ("user.100%", b"all"),
                        ("user.big", b"z" * 3000), ("trusted.mine", b"root's"), ("security.capability", CAPABILITY), ("system.posix_acl_access", ACCESS)]:
        os.setxattr("attributes", name, value)
    open("overlay-in-overlay", "w").write("x")
    os.mkdir("default-acl")
    os.setxattr("default-acl", "system.posix_acl_default", ACCESS)
    os.chdir(top)
    # What was there is replaced by another kind, hidden, emptied and edited without a trace in size and time.
    shutil.rmtree(dirs[-1])
    open(dirs[-1], "w").write("a file now")
    real = [f for f in files if os.path.lexists(f) and regular(f) and os.lstat(f).st_size]
    os.unlink(real[0])
    os.mkdir(real[0])
    open(os.path.join(real[0], "inside"), "w").write("x")
    os.unlink(real[1])
    os.symlink("/etc/shadow", real[1])
    was = os.lstat(real[2])
    with open(real[2], "r+b") as f:
        f.write(b"!")
    os.utime(real[2], ns=(was.st_atime_ns, was.st_mtime_ns))
    os.unlink(real[3])


def show(path):
    return path.decode("utf8", "backslashreplace")


def snapshot(top):
    top = os.fsencode(top)
    found, inodes = {}, {}
    for at, ds, fs in os.walk(top):
        for name in ds + fs:
            path = os.path.join(at, name)
            s = os.lstat(path)
            kind = stat.S_IFMT(s.st_mode)
            if kind == stat.S_IFSOCK:
                continue
            rel = show(os.path.relpath(path, top))
            one = {"kind": oct(kind), "mode": oct(stat.S_IMODE(s.st_mode)), "owner": [s.st_uid, s.st_gid], "mtime": str(s.st_mtime_ns)}
            if kind == stat.S_IFLNK:
                one["link"] = show(os.readlink(path))
            if kind == stat.S_IFREG:
                one["sha256"] = hashlib.sha256(open(path, "rb").read()).hexdigest()
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                one["device"] = [os.major(s.st_rdev), os.minor(s.st_rdev)]
            names = os.listxattr(path, follow_symlinks=False)
            one["xattrs"] = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in sorted(names)}
            if kind != stat.S_IFDIR and s.st_nlink > 1:
                inodes.setdefault(s.st_ino, []).append(rel)
            found[rel] = one
    groups = sorted(sorted(g) for g in inodes.values() if len(g) > 1)
    json.dump({"entries": found, "links": groups}, sys.stdout, sort_keys=True)


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def apply(layer, top):
    """OCI image-spec, layer.md: whiteouts concern what is below; then GNU tar does the rest."""
    with tarfile.open(layer, errors="surrogateescape") as archive:
        members = archive.getmembers()
    for member in members:
        at, name = os.path.split(os.path.join(top, member.name))
        if name == ".wh..wh..opq":
            for child in os.listdir(at) if os.path.isdir(at) else []:
                remove(os.path.join(at, child))
        elif name.startswith(".wh."):
            remove(os.path.join(at, name[4:]))
        else:
            path = os.path.join(at, name)
            there = os.path.isdir(path) and not os.path.islink(path)
            if os.path.lexists(path) and not (there and member.isdir()):
                remove(path)
    subprocess.run(
        ["tar", "-x", "-p", "--same-owner", "--numeric-owner", "--delay-directory-restore", "--warning=no-timestamp",
         "--warning=no-unknown-keyword", "--xattrs", "--xattrs-include=*", "--wildcards", "--exclude=.wh.*", "-C", top, "-f", layer],
        check=True,
    )


def times(top):
    """Access, modification and change time of all that is in a directory. Walks twice, for the first walk may set access times."""
    top, found = os.fsencode(top), {}
    for at, ds, fs in list(os.walk(top)) + list(os.walk(top)):
        for name in ds + fs:
            s = os.lstat(os.path.join(at, name))
            found[show(os.path.relpath(os.path.join(at, name), top))] = "%d %d %d" % (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns)
    json.dump(found, sys.stdout)


def nanoseconds(text):
    sign = -1 if text.startswith("-") else 1
    seconds, _, fraction = text.lstrip("-").partition(".")
    return sign * (int(seconds) * 10**9 + int(fraction.ljust(9, "0")))


def headers(layer):
    """The same of an archive's members, as Python's tarfile finds their records."""
    found = {}
    for m in tarfile.open(layer, errors="surrogateescape"):
        p = m.pax_headers
        ns = [nanoseconds(p[k]) if k in p else int(m.mtime) * 10**9 for k in ("atime", "mtime", "ctime")]
        found[show(os.fsencode(m.name))] = "%d %d %d" % tuple(ns)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
