# Makes each system call that the sensor watches, each in a process of its own that does nothing else of that kind. For each
# prints the name of the call, what it is to be told as, the process id, and 0, or 77 where there is no such call. What
# comes before this in the script imports the library and what else is used.
HERE = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
shared = ctypes.create_string_buffer(8)
folder = os.getcwdb() + b"/on"
os.mkdir(folder)
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", port))
peer = struct.pack("=H", 2) + struct.pack(">H", port) + bytes([127, 0, 0, 1]) + bytes(8)
kept = []


def memory(*parts):
    """The address of bytes."""
    kept.append(ctypes.create_string_buffer(b"".join(parts)))
    return ctypes.addressof(kept[-1])


def stream():
    kept.append(socket.socket())
    return kept[-1].fileno()


def datagrams():
    kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    return kept[-1].fileno()


def called():
    """Somebody waits to be accepted."""
    kept.append(socket.create_connection(("127.0.0.1", port)))
    return listener.fileno()


def message():
    """struct mmsghdr, which begins with struct msghdr."""
    vector = memory(struct.pack("PP", memory(b"word"), 4))
    return struct.pack("PIxxxxPQPQi4xQ", memory(peer), 16, vector, 1, 0, 0, 0, 0)


def handle(name):
    handle = ctypes.create_string_buffer(struct.pack("I", 128) + bytes(132))
    if libc.name_to_handle_at(-100, name, handle, ctypes.byref(ctypes.c_int()), 0) != 0:
        os._exit(77)  # This file system has none.
    return handle


def page():
    return ctypes.c_void_p(libc.mmap(None, ctypes.c_long(4096), 3, 0x22, -1, ctypes.c_long(0)))


def private():
    assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0


def mounted():
    private()
    assert libc.mount(b"none", folder, b"tmpfs", 0, None) == 0


def system():
    """A file system that is nowhere yet."""
    private()
    system = libc.syscall(430, b"tmpfs", 0)
    if system < 0:
        os._exit(77)
    assert libc.syscall(431, system, 6, None, None, 0) == 0
    return libc.syscall(432, system, 0, 0)


def nobody():
    """Calls that fail are told if they fail for this."""
    os.setresuid(65534, 65534, 65534)


def program():
    libc.setrlimit(8, struct.pack("QQ", 1 << 30, 1 << 30))  # Before 5.11 programs count as locked memory.
    code = memory(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    return struct.pack("<IIQQIIQII16s", 1, 2, code, memory(b"GPL"), 0, 0, 0, 0, 0, b"bpf") + bytes(64)


def vector():
    return struct.pack("PP", ctypes.addressof(shared), 8)


long = ctypes.c_long
unlink, rename = os.unlink, lambda name: os.rename(name, name + b" before")

# Name; number on x86-64 and on arm64, if it is there; told as; what is done before, given the name; arguments, given the name
# and what that gave. There is a file of that name.
CALLS = [
    ("open", (2, None), "file_open", None, lambda n, _: (n, 0, 0)),
    ("openat", (257, 56), "file_open", None, lambda n, _: (-100, n, 2, 0)),
    ("openat2", (437, 437), "file_open", None, lambda n, _: (-100, n, struct.pack("QQQ", 1, 0, 0), 24)),
    ("creat", (85, None), "file_create", unlink, lambda n, _: (n, 0o600)),
    ("open_by_handle_at", (304, 265), "file_open", handle, lambda _, to: (os.open(b".", 0), to, 0)),
    ("truncate", (76, 45), "file_open", None, lambda n, _: (n, long(0))),
    ("mknod", (133, None), "file_create", unlink, lambda n, _: (n, 0o100600, 0)),
    ("mknodat", (259, 33), "file_create", unlink, lambda n, _: (-100, n, 0o010600, 0)),
    ("unlink", (87, None), "file_unlink", None, lambda n, _: (n,)),
    ("unlinkat", (263, 35), "file_unlink", None, lambda n, _: (-100, n, 0)),
    ("rmdir", (84, None), "file_unlink", lambda n: (unlink(n), os.mkdir(n)), lambda n, _: (n,)),
    ("rename", (82, None), "file_rename", None, lambda n, _: (n, b"other 1")),
    ("renameat", (264, 38), "file_rename", None, lambda n, _: (-100, n, -100, b"other 2")),
    ("renameat2", (316, 276), "file_rename", None, lambda n, _: (-100, n, -100, b"other 3", 0)),
    ("chmod", (90, None), "file_mode", None, lambda n, _: (n, 0o640)),
    ("fchmod", (91, 52), "file_mode", lambda n: os.open(n, 0), lambda _, file: (file, 0o640)),
    ("fchmodat", (268, 53), "file_mode", None, lambda n, _: (-100, n, 0o640)),
    ("fchmodat2", (452, 452), "file_mode", None, lambda n, _: (-100, n, 0o640, 0)),
    ("chown", (92, None), "file_owner", None, lambda n, _: (n, 1, 2)),
    ("lchown", (94, None), "file_owner", None, lambda n, _: (n, 1, 2)),
    ("fchown", (93, 55), "file_owner", lambda n: os.open(n, 0), lambda _, file: (file, 1, 2)),
    ("fchownat", (260, 54), "file_owner", None, lambda n, _: (-100, n, 1, 2, 0)),
    ("link", (86, None), "file_link", rename, lambda n, _: (n + b" before", n)),
    ("linkat", (265, 37), "file_link", rename, lambda n, _: (-100, n + b" before", -100, n, 0)),
    ("symlink", (88, None), "file_link", unlink, lambda n, _: (b"nowhere", n)),
    ("symlinkat", (266, 36), "file_link", unlink, lambda n, _: (b"nowhere", -100, n)),
    ("connect", (42, 203), "connect", None, lambda *_: (stream(), peer, 16)),
    ("accept", (43, 202), "accept", None, lambda *_: (called(), None, None)),
    ("accept4", (288, 242), "accept", None, lambda *_: (called(), None, None, 0)),
    ("bind", (49, 200), "bind", None, lambda *_: (stream(), struct.pack("H14x", 2), 16)),
    ("listen", (50, 201), "listen", None, lambda *_: (stream(), 1)),
    ("sendto", (44, 206), "send", None, lambda *_: (datagrams(), b"word", 4, 0, peer, 16)),
    ("sendmsg", (46, 211), "send", None, lambda *_: (datagrams(), message(), 0)),
    ("sendmmsg", (307, 269), "send", None, lambda *_: (datagrams(), message(), 1, 0)),
    ("ptrace", (101, 117), "ptrace", None, lambda *_: (0, 0, None, None)),
    ("process_vm_readv", (310, 270), "memory_read", None, lambda *_: (os.getppid(), vector(), 1, vector(), 1, long(0))),
    ("process_vm_writev", (311, 271), "memory_write", None, lambda *_: (os.getppid(), vector(), 1, vector(), 1, long(0))),
    ("memfd_create", (319, 279), "memory_file", None, lambda *_: (b"name", 0)),
    ("mmap", (9, 222), "writable_code", None, lambda *_: (None, long(4096), 7, 0x22, long(-1), long(0))),
    ("mprotect", (10, 226), "writable_code", None, lambda *_: (page(), long(4096), 7)),
    ("pkey_mprotect", (329, 288), "writable_code", None, lambda *_: (page(), long(4096), 7, long(-1))),
    ("mount", (165, 40), "mount", lambda _: private(), lambda *_: (b"none", folder, b"tmpfs", long(2), None)),
    ("move_mount", (429, 429), "mount", lambda _: system(), lambda _, system: (system, b"", -100, folder, 4)),
    ("umount", (166, 39), "unmount", lambda _: mounted(), lambda *_: (folder, 0)),
    ("unshare", (272, 97), "unshare", None, lambda *_: (0x04000000,)),
    ("setns", (308, 268), "enter_namespace", None, lambda *_: (os.open("/proc/self/ns/uts", 0), 0)),
    ("init_module", (175, 105), "module_load", lambda _: nobody(), lambda *_: (b"none", long(4), b"")),
    ("finit_module", (313, 273), "module_load", lambda _: nobody(), lambda *_: (0, b"", 0)),
    ("delete_module", (176, 106), "module_unload", lambda _: nobody(), lambda *_: (b"none", 0)),
    ("bpf", (321, 280), "bpf_load", None, lambda *_: (5, program(), 72)),
    ("setuid", (105, 146), "credentials", None, lambda *_: (65534,)),
    ("setgid", (106, 144), "credentials", None, lambda *_: (65534,)),
    ("setreuid", (113, 145), "credentials", None, lambda *_: (65534, 65534)),
    ("setregid", (114, 143), "credentials", None, lambda *_: (65534, 65534)),
    ("setgroups", (116, 159), "credentials", None, lambda *_: (long(0), None)),
    ("setresuid", (117, 147), "credentials", None, lambda *_: (65534, 65534, 0)),
    ("setresgid", (119, 149), "credentials", None, lambda *_: (65534, 65534, 0)),
    ("setfsuid", (122, 151), "credentials", None, lambda *_: (65534,)),
    ("setfsgid", (123, 152), "credentials", None, lambda *_: (65534,)),
    ("capset", (126, 91), "credentials", None, lambda *_: (struct.pack("II", 0x20080522, 0), bytes(24))),
]


def make(number, name, before, arguments):
    """Does it and ends."""
    try:
        given = arguments(name, before(name) if before else None)
        done = libc.syscall(long(number), *given)
        os._exit(77 if done == -1 and ctypes.get_errno() == 38 else 0)
    except BaseException as error:
        print(name, error, file=sys.stderr)
        os._exit(1)


for name, numbers, told, before, arguments in CALLS:
    if numbers[HERE] is None:
        continue
    open(name, "w").close()
    child = os.fork()
    if child == 0:
        make(numbers[HERE], name.encode(), before, arguments)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(name, told, child, code, flush=True)
