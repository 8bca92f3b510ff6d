//! What system calls do, by their numbers on Linux.
//!
//! Numbers are those of the kernel's headers `asm/unistd_64.h` and `asm/unistd_32.h` of Linux 6.1.

/// What a system call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    File,
    Data,
    Network,
    Process,
    Memory,
    Signal,
    Wait,
    Identity,
    System,
    Channel,
}

/// How many categories there are.
pub(super) const CATEGORIES: usize = 10;
/// How many calls are counted each by itself.
pub(super) const KEY_CALLS: usize = 18;

/// A letter for the category of each number, `-` for none.
const X86_64: &[u8] =
    b"ddfffffwfmmmmsssdddddfcwpmmmmcccffswwswpdnnnnnnnnnnnnnnnppppppsyccccccccffddffffffffffffffffffffwppy\
    wpiyiiiiippppiiiiiiiipiipiisssssff-pfffypppppp---mmmm-myyppwpydywyyyyynnyyyyy-yy------pdffffffffffff\
    swppppdddddpyw--mfpscfwwwwwwwwwpwwsf-mmmccccccypiii--fff-fffffffffffffwwpppdddd-fwswwfwwnswwfcfddsyn\
    ffpffwdnpypppy--fpymyypm-mdddmmmf-p-----------------------------------------------------------------\
    ------------------------sdddyyyyy-ppffpf-wy----m---";

/// The same of the 32-bit calls.
const I386: &[u8] =
    b"sppddffpfffpfwfff-ffpyyiiwpsfsf--fpwdsffffcw-miisiiyy-df-p--fyffpppsssiissnpppwwiiwfff-yyfmmffffpp-f\
    fynywwfff-y---pyycdspnymwmsyyy-ypf-yp-iiffwfmddpdymmmmppppp---wmii-yw-iipsssssssddffiisd--ppmffffffi\
    iiiiiiifiiiifiiiiymmff--pdffffffffffffsdpppppdddddf-pywwwmpwwwwwwwwwffsff-mmmccccccyp-iii--fff-fffff\
    ffffffffwwpppdddd-ywfswwfwwswwfcfddsynffpffwdnppppy--fpymypnnnnnnnnnnnnnnnm-mdddmmmfp-p------ccccccc\
    ccc---------------------sdddyyyyy-ppffpf-wy----m---";

/// Numbers that are counted by themselves, in order, and which counter is theirs.
const X86_64_KEYS: &[(u32, usize)] = &[
    (2, 10),
    (9, 4),
    (10, 3),
    (16, 15),
    (32, 14),
    (33, 14),
    (42, 5),
    (43, 6),
    (49, 7),
    (56, 1),
    (57, 1),
    (58, 1),
    (59, 0),
    (62, 9),
    (82, 13),
    (84, 11),
    (85, 10),
    (87, 11),
    (90, 12),
    (91, 12),
    (101, 2),
    (105, 8),
    (106, 8),
    (113, 8),
    (114, 8),
    (117, 8),
    (119, 8),
    (155, 16),
    (161, 16),
    (165, 16),
    (166, 16),
    (175, 17),
    (176, 17),
    (200, 9),
    (234, 9),
    (257, 10),
    (263, 11),
    (264, 13),
    (268, 12),
    (288, 6),
    (292, 14),
    (310, 2),
    (311, 2),
    (313, 17),
    (316, 13),
    (321, 17),
    (322, 0),
    (329, 3),
    (435, 1),
    (437, 10),
];

/// The same of the 32-bit calls.
const I386_KEYS: &[(u32, usize)] = &[
    (2, 1),
    (5, 10),
    (8, 10),
    (10, 11),
    (11, 0),
    (15, 12),
    (21, 16),
    (22, 16),
    (23, 8),
    (26, 2),
    (37, 9),
    (38, 13),
    (40, 11),
    (41, 14),
    (46, 8),
    (52, 16),
    (54, 15),
    (61, 16),
    (63, 14),
    (70, 8),
    (71, 8),
    (90, 4),
    (94, 12),
    (120, 1),
    (125, 3),
    (128, 17),
    (129, 17),
    (164, 8),
    (170, 8),
    (190, 1),
    (192, 4),
    (203, 8),
    (204, 8),
    (208, 8),
    (210, 8),
    (213, 8),
    (214, 8),
    (217, 16),
    (238, 9),
    (270, 9),
    (295, 10),
    (301, 11),
    (302, 13),
    (306, 12),
    (330, 14),
    (347, 2),
    (348, 2),
    (350, 17),
    (353, 13),
    (357, 17),
    (358, 0),
    (361, 7),
    (362, 5),
    (364, 6),
    (380, 3),
    (435, 1),
    (437, 10),
];

/// The category of a call; `None` for one that is not known, or of another architecture than x86.
pub(super) fn category(architecture: &str, number: u32) -> Option<Category> {
    let letters = match architecture {
        "x86_64" => X86_64,
        "i386" | "x86" => I386,
        _ => return None,
    };
    Some(match letters.get(number as usize)? {
        b'f' => Category::File,
        b'd' => Category::Data,
        b'n' => Category::Network,
        b'p' => Category::Process,
        b'm' => Category::Memory,
        b's' => Category::Signal,
        b'w' => Category::Wait,
        b'i' => Category::Identity,
        b'y' => Category::System,
        b'c' => Category::Channel,
        _ => return None,
    })
}

/// Which of the calls that are counted by themselves it is.
pub(super) fn key_call(architecture: &str, number: u32) -> Option<usize> {
    let keys = match architecture {
        "x86_64" => X86_64_KEYS,
        "i386" | "x86" => I386_KEYS,
        _ => return None,
    };
    let at = keys.binary_search_by_key(&number, |key| key.0).ok()?;
    keys.get(at).map(|key| key.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_the_kernel_says() {
        assert_eq!(category("x86_64", 59), Some(Category::Process), "execve");
        assert_eq!(category("i386", 11), Some(Category::Process), "execve");
        assert_eq!(category("x86_64", 41), Some(Category::Network), "socket");
        assert_eq!(category("i386", 102), Some(Category::Network), "socketcall");
        assert_eq!((category("x86_64", 9999), category("vax", 1)), (None, None));
        assert_eq!((key_call("x86_64", 59), key_call("i386", 11)), (Some(0), Some(0)));
        assert_eq!((key_call("x86_64", 42), key_call("x86_64", 0)), (Some(5), None));
    }
}
