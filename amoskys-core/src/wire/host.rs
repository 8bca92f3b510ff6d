//! What is seen on hosts: processes in detail, what they do, and their system calls.

use super::message::{enumeration, message};
use super::scalar::Element;
use crate::event::{
    ActivityAction, ActivityEvent, ActivityVia, Ancestor, CallCount, Credentials, Namespaces, ResourceUsage,
    SyscallHistogram,
};

enumeration! {
    ActivityVia { Syscall = 0, IoUring = 1, Kernel = 2, Comparison = 3 }
    ActivityAction {
        FileOpen = 0,
        FileCreate = 1,
        FileUnlink = 2,
        FileRename = 3,
        FileMode = 4,
        FileOwner = 5,
        FileLink = 6,
        Connect = 7,
        Accept = 8,
        Bind = 9,
        Listen = 10,
        Send = 11,
        DnsQuery = 12,
        Ptrace = 13,
        MemoryRead = 14,
        MemoryWrite = 15,
        MemoryFile = 16,
        WritableCode = 17,
        CapabilityUse = 18,
        Mount = 19,
        Unmount = 20,
        Unshare = 21,
        EnterNamespace = 22,
        ModuleLoad = 23,
        ModuleUnload = 24,
        BpfLoad = 25,
        Signal = 26,
        IoUring = 27,
        ConnectDenied = 28,
        FileModify = 29,
        LogIn = 30,
        LogOut = 31,
    }
}

message! {
    Ancestor = Self::default(), "Ancestor";
    1 pid;
    2 start_ns => start;
    3 executable;
}

impl Element for Ancestor {}

message! {
    Credentials = Self::default(), "Credentials";
    1 uid;
    2 effective_uid;
    3 saved_uid;
    4 gid;
    5 effective_gid;
    6 saved_gid;
    7 effective;
    8 permitted;
    9 inheritable;
    10 bounding;
    11 ambient;
}

message! {
    Namespaces = Self::default(), "Namespaces";
    1 mount;
    2 pid;
    3 network;
    4 uts;
    5 ipc;
    6 cgroup;
    7 user;
}

message! {
    ResourceUsage = Self::default(), "ResourceUsage";
    1 user_ns;
    2 system_ns;
    3 minor_faults;
    4 major_faults;
    5 max_resident_bytes;
}

message! {
    SyscallHistogram = Self::default(), "SyscallHistogram";
    1 pid;
    2 start_ns => start;
    3 command;
    4 architecture;
    5 period_ns;
    6 counts, repeated;
    7 others;
}

message! {
    CallCount = Self::default(), "CallCount";
    1 number;
    2 count;
}

impl Element for CallCount {}

message! {
    ActivityEvent = Self::default(), "ActivityEvent";
    1 action, strict;
    2 via;
    3 pid;
    4 start_ns => start;
    5 tid;
    6 uid;
    7 gid;
    8 command;
    9 executable;
    10 container;
    11 ancestors, repeated;
    12 result;
    13 path;
    14 other_path;
    15 name;
    16 flags;
    17 number;
    18 amount;
    19 remote_address;
    20 remote_port;
    21 local_address;
    22 local_port;
    23 protocol;
    24 target_pid;
    25 target_start_ns => target_start;
    26 target_uid;
}
