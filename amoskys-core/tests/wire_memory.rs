//! Decoding takes memory in proportion to its input, whatever the input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use amoskys_core::event::{Event, Payload};
use amoskys_core::wire::{MAX_EVENTS, decode_event, decode_events, decode_ledger, encode_event};

/// Bytes of memory for a byte of input, at most. The worst inputs are empty labels, which take 47, and empty
/// flows, which take 44.
const FACTOR: usize = 64;
/// For boxes whose size does not depend on the input, errors among them.
const FIXED: usize = 4096;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, which counts what each thread takes.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn took(bytes: usize) {
    let held = HELD.get().wrapping_add(bytes);
    HELD.set(held);
    // Another thread's memory may be given back here, which looks like less than nothing.
    if held < usize::MAX / 2 && held > MOST.get() {
        MOST.set(held);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory it manages, and
// takes none, because the counters are constant-initialised thread-locals without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most memory held at one time while `work` runs, its result included.
fn most_held(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    work();
    MOST.get() - before
}

fn check(what: &str, bytes: &[u8]) {
    for held in [
        most_held(|| drop(decode_event(bytes))),
        most_held(|| drop(decode_events(bytes))),
        most_held(|| drop(decode_ledger(bytes))),
    ] {
        let allowed = bytes.len() * FACTOR + FIXED;
        assert!(
            held <= allowed,
            "{what}: {} bytes took {held} bytes of memory",
            bytes.len()
        );
    }
}

/// An id, and then these fields.
fn event(rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![9, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0];
    bytes.extend(rest);
    bytes
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An event with a payload of this number, which holds `content`.
fn with_payload(number: usize, content: &[u8]) -> Vec<u8> {
    event(&[varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat())
}

#[test]
fn the_smallest_elements_of_every_list_take_bounded_memory() {
    let many = |element: &[u8]| element.repeat(200_000 / element.len());
    let key = [18, 12, 10, 4, 0, 0, 0, 0, 26, 4, 0, 0, 0, 0];
    let inputs = [
        ("arguments", with_payload(19, &many(&[0x4a, 0]))),
        ("syscall numbers", with_payload(20, &many(&[0x30, 0]))),
        (
            "packed syscall numbers",
            with_payload(20, &[&[0x32][..], &varint(200_000), &[0; 200_000]].concat()),
        ),
        ("labels", with_payload(21, &many(&[0x2a, 0]))),
        (
            "questions",
            with_payload(17, &[&key[..], &many(&[0x4a, 0])].concat()),
        ),
        (
            "addresses",
            with_payload(17, &[&key[..], &many(&[0x6a, 4, 0, 0, 0, 0])].concat()),
        ),
        ("peers", with_payload(30, &many(&[0x3a, 2, 8, 4]))),
        ("named peers", with_payload(30, &many(&[0x3a, 4, 8, 4, 0x32, 0]))),
        ("evidence", with_payload(30, &many(&[0x5a, 2, 0x0a, 0]))),
        ("attributes of one name", event(&many(&[0x3a, 4, 0x12, 2, 8, 0]))),
        ("attributes of a new kind", event(&many(&[0x3a, 0]))),
        ("unknown fields", event(&many(&[0x40, 0]))),
        ("unknown fields of a payload", with_payload(29, &many(&[0x40, 0]))),
        ("a new payload", with_payload(99, &many(&[0x40, 0]))),
    ];
    for (what, bytes) in inputs {
        check(what, &bytes);
    }
    let stages: Vec<u8> = (0..20_000u32)
        .flat_map(|stage| {
            [
                &[0x0a, 8, 0x0a, 4][..],
                format!("{:04x}", stage % 0xffff).as_bytes(),
                &[0x12, 0],
            ]
            .concat()
        })
        .collect();
    check("stages of a ledger", &stages);
    let attributes: Vec<u8> = (0..20_000u32)
        .flat_map(|name| {
            [
                &[0x3a, 10, 0x0a, 4][..],
                format!("{name:04x}").as_bytes(),
                &[0x12, 2, 8, 0],
            ]
            .concat()
        })
        .collect();
    check("attributes", &event(&attributes));
}

#[test]
fn many_small_events_take_bounded_memory() {
    // The smallest flow: two addresses, and a thousand bytes of numbers that are all zero.
    let flow = with_payload(16, &[26, 12, 10, 4, 0, 0, 0, 0, 26, 4, 0, 0, 0, 0]);
    let delimited = [varint(flow.len()), flow].concat();
    check("flows", &delimited.repeat(10_000));
    let bare = [vec![11], event(&[])].concat();
    check("events without payload", &bare.repeat(MAX_EVENTS));
    assert!(decode_events(&bare.repeat(MAX_EVENTS + 1)).is_err());
}

#[test]
fn lengths_that_promise_more_than_there_is_take_nothing() {
    let mut full = Vec::new();
    let tag = 31;
    let bytes = vec![1; 5000].into();
    encode_event(
        &Event {
            payload: Payload::Unknown { tag, bytes },
            ..Event::default()
        },
        &mut full,
    );
    for end in [12, 14, 100, full.len() - 1] {
        check("a cut event", &full[..end]);
    }
    check("a length of nothing", &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    check(
        "a length of more than all",
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    );
}
