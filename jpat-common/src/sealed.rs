//! What the program must know of a sealed knock (`docs/protocol.md` §6): its header, and the filter in front of the ring.

/// First bytes of a sealed knock. A bare one begins with `e`, as every base64url text of `{` does.
pub const MAGIC: [u8; 4] = *b"JPAT";
/// Version of the protocol, at offset 4.
pub const VERSION: u8 = 1;
/// At offset 5: the datagram is a knock.
pub const TYPE_KNOCK: u8 = 1;
/// At offset 5: the datagram is a reply.
pub const TYPE_REPLY: u8 = 2;
/// Offset of the knock key's id, two bytes in network order.
pub const KEY_ID_AT: usize = 6;
/// Offset of the server key's hint, two bytes.
pub const HINT_AT: usize = 8;
/// Offset of the sender's time, milliseconds since 1970 in six bytes, network order.
pub const TIME_AT: usize = 10;
/// Offset of the tag, eight bytes.
pub const TAG_AT: usize = 16;
/// Offset of the HPKE encapsulated key, 32 bytes; what comes before, less the tag, is additional data.
pub const ENC_AT: usize = 24;
/// Offset of the ciphertext.
pub const CIPHERTEXT_AT: usize = 56;
/// Fewest bytes of a sealed knock.
pub const MIN_PAYLOAD: usize = 128;
/// Every sealed knock is a multiple of it, so that the tag is over whole words.
pub const WORD: usize = 8;
/// How far the time of a knock may be from the host's to reach the controller, milliseconds.
pub const FILTER_WINDOW_MS: u64 = 300_000;

/// Most knock keys at a time.
pub const MAX_KNOCK_KEYS: u32 = 1024;
/// Entries of the budget table: that of bare knocks, then one for each group of knock keys.
pub const BUDGETS: u32 = 256;
/// Index of the budget of bare knocks.
pub const BARE_BUDGET: u32 = 0;
/// Tags that are remembered. A tag that is forgotten early is refused by the controller.
pub const TAGS: u32 = 65_536;

/// What the program knows of a knock key, under its id in network order.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct KnockKey {
    /// First half of the SipHash key, as a number in little-endian order.
    pub k0: u64,
    /// Second half.
    pub k1: u64,
    /// Index of its group's budget.
    pub group: u32,
    /// Zero.
    pub reserved: u32,
}

/// How many knocks one group may send: a virtual clock ("generic cell rate"), which each knock sets forward by
/// `interval_ns` and which may be ahead of the host's by `burst_ns`. CPUs that count in the same moment may lose one of
/// the two; the controller counts again, exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Budget {
    /// Time that one knock takes up, nanoseconds; 0 allows none.
    pub interval_ns: u64,
    /// How far the virtual clock may be ahead, nanoseconds.
    pub burst_ns: u64,
    /// The virtual clock, nanoseconds of `CLOCK_BOOTTIME`. The program writes it.
    pub next_ns: u64,
}

crate::pod!(KnockKey, Budget);

const _: () = {
    assert!(size_of::<KnockKey>() == 24 && align_of::<KnockKey>() == 8);
    assert!(size_of::<Budget>() == 24 && align_of::<Budget>() == 8);
    assert!(TIME_AT + 6 == TAG_AT && TAG_AT + WORD == ENC_AT && ENC_AT + 32 == CIPHERTEXT_AT);
    assert!(crate::knock::MAX_PAYLOAD.is_multiple_of(WORD) && MIN_PAYLOAD.is_multiple_of(WORD));
};
