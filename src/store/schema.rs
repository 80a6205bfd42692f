//! The tables in SQLite, as steps forward. A step that was released is never edited: add another.

pub const VERSION: i64 = MIGRATIONS.len() as i64;

pub const MIGRATIONS: &[&str] = &[FIRST, SECOND, THIRD, FOURTH, FIFTH];

/// Spool IDs and visitor keys are their 64 bits as a signed integer; times are milliseconds since 1970.
const FIRST: &str = "
-- How far each spool is applied. `next` is the number of the first record that is not.
CREATE TABLE marks (
    spool INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    next INTEGER NOT NULL,
    sealed INTEGER,             -- how many records it has, once it gets no more
    first_ms INTEGER,           -- time of the first record applied
    last_ms INTEGER,            -- time of the latest record applied
    gap INTEGER                 -- the number that stood where `next` was due; the spool waits
);
-- Records that the disk lost: named, counted, passed.
CREATE TABLE quarantined (
    spool INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (spool, first)
) WITHOUT ROWID;
-- Records that could not be applied, as they came.
CREATE TABLE dead_letters (
    spool INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    why TEXT NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (spool, seq)
);
CREATE TABLE catalogs (
    hash TEXT PRIMARY KEY,
    rulebook TEXT NOT NULL,
    active INTEGER NOT NULL
);
CREATE UNIQUE INDEX one_catalog_is_active ON catalogs (active) WHERE active = 1;

-- Facts of one order: the report that won, and what came to be known since.
CREATE TABLE conversions (
    id INTEGER PRIMARY KEY,
    conversion_id TEXT NOT NULL UNIQUE,
    merchant_id INTEGER NOT NULL,
    order_id TEXT NOT NULL,
    type TEXT NOT NULL,
    occurred_at_ms INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    report TEXT NOT NULL,
    spool INTEGER NOT NULL,     -- the record that won
    seq INTEGER NOT NULL,
    own_click TEXT NOT NULL,
    touches BLOB NOT NULL,      -- click IDs, 36 bytes each
    status TEXT,                -- the merchant's, the latest received
    status_received_ms INTEGER,
    status_spool INTEGER,
    status_seq INTEGER,
    catalog TEXT NOT NULL,      -- the terms of the first decision hold for all later ones
    settings TEXT NOT NULL,
    revision INTEGER NOT NULL,  -- of the latest decision
    booked_ms INTEGER NOT NULL, -- when the latest of its facts was received
    UNIQUE (order_id, merchant_id, type)
);
-- Whose late click may still change what: clicks up to `until_ms` are facts of the conversion.
CREATE TABLE visitors (
    visitor INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    conversion INTEGER NOT NULL,
    PRIMARY KEY (visitor, until_ms, conversion)
) WITHOUT ROWID;
-- One row: the latest times seen.
CREATE TABLE horizon (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    click_ms INTEGER NOT NULL,  -- of a click
    until_ms INTEGER NOT NULL   -- of `visitors`
);
INSERT INTO horizon VALUES (1, 0, 0);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    conversion INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    facts TEXT NOT NULL,
    decision TEXT NOT NULL,
    UNIQUE (conversion, revision)
);
-- Reports of an order or a refund that differ from the one that won.
CREATE TABLE conflicts (
    spool INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    conversion_id TEXT NOT NULL,
    refund_id TEXT,
    content_hash TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (spool, seq)
);
CREATE INDEX conflicts_of_a_conversion ON conflicts (conversion_id);
CREATE TABLE refunds (
    id INTEGER PRIMARY KEY,
    merchant_id INTEGER NOT NULL,
    refund_id TEXT NOT NULL,
    conversion_id TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    event TEXT NOT NULL,
    waiting INTEGER NOT NULL,   -- 1 until its order comes
    UNIQUE (merchant_id, refund_id)
);
CREATE INDEX refunds_of_a_conversion ON refunds (conversion_id);
CREATE INDEX refunds_waiting ON refunds (waiting) WHERE waiting = 1;

-- Double entry, append only.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    entry_id TEXT NOT NULL UNIQUE,
    conversion INTEGER NOT NULL,
    revision INTEGER NOT NULL,  -- counts the sets of a conversion; a decision that moves nothing has none
    line INTEGER NOT NULL,
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at_ms INTEGER NOT NULL      -- when the latest of the facts behind it was received
);
CREATE INDEX entries_of_a_conversion ON entries (conversion);
CREATE TRIGGER entries_are_never_edited BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are never edited'); END;
CREATE TRIGGER entries_are_never_removed BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are never removed'); END;

-- The latest decision once more, as reports group it: a row per publisher, or one without.
CREATE TABLE shares (
    id INTEGER PRIMARY KEY,
    conversion INTEGER NOT NULL,
    occurred_at_ms INTEGER NOT NULL,
    merchant_id INTEGER NOT NULL,
    offer_id INTEGER,
    publisher_id INTEGER,
    link TEXT,
    source TEXT,
    sub1 TEXT,
    type TEXT NOT NULL,
    coupon_code TEXT,
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL,    -- of the conversion, what is not refunded
    commission INTEGER NOT NULL,
    reversed INTEGER NOT NULL
);
CREATE INDEX shares_of_a_conversion ON shares (conversion);
CREATE INDEX shares_by_time ON shares (occurred_at_ms, conversion);

-- Clicks in quarter hours: every offset of a time zone is a multiple of one.
CREATE TABLE click_rollups (
    quarter_ms INTEGER NOT NULL,
    publisher_id INTEGER NOT NULL,
    merchant_id INTEGER NOT NULL,
    offer_id INTEGER NOT NULL,
    link TEXT NOT NULL,         -- empty: none
    source TEXT NOT NULL,
    sub1 TEXT NOT NULL,
    clicks INTEGER NOT NULL,
    billable INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1)
) WITHOUT ROWID;

-- Each row stands for a table `touches_N`; the one that is open gets the new rows.
CREATE TABLE touch_periods (
    period INTEGER PRIMARY KEY,
    day INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    touches INTEGER NOT NULL,
    filter BLOB                 -- made when it closes
);
";

const SECOND: &str = "
-- From when on a click is a fact of the conversion. 0 in rows from before: the conversion itself is asked.
ALTER TABLE visitors ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0;
-- How much of the visitor's clicks `touches` holds: 0 all, 1 those that may make a difference, 2 not all were read.
ALTER TABLE conversions ADD COLUMN extent INTEGER NOT NULL DEFAULT 0;
";

const THIRD: &str = "
-- 1: no disk lost it, Kafka would not take it.
ALTER TABLE quarantined ADD COLUMN parked INTEGER NOT NULL DEFAULT 0;
-- Tells this store from all others.
CREATE TABLE identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id INTEGER NOT NULL
);
INSERT INTO identity VALUES (1, random());
-- Conversions that wait for their first or their final decision.
CREATE TABLE waiting (
    conversion INTEGER PRIMARY KEY,
    since_ms INTEGER NOT NULL,
    stand INTEGER NOT NULL      -- 0 not decided, 1 provisional, 2 for a key that is not listed
);
CREATE INDEX waiting_longest ON waiting (stand, since_ms, conversion);
-- Where in Kafka to go on reading: a hint.
CREATE TABLE offsets (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next INTEGER NOT NULL,
    last INTEGER NOT NULL,      -- tells the record before it from that of a topic made anew; 0: not known
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
-- What edges told of their spools last.
CREATE TABLE spool_states (
    spool INTEGER PRIMARY KEY,
    seq INTEGER,                -- the last number on disk
    topic TEXT NOT NULL,
    edge TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    shipped INTEGER NOT NULL,
    oldest_unshipped_ms INTEGER,
    unspooled INTEGER NOT NULL,
    late INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    partition INTEGER NOT NULL
);
-- Who counts at the same time counts on lanes of its own; reports add them up.
ALTER TABLE click_rollups RENAME TO click_rollups_without_lane;
CREATE TABLE click_rollups (
    quarter_ms INTEGER NOT NULL,
    publisher_id INTEGER NOT NULL,
    merchant_id INTEGER NOT NULL,
    offer_id INTEGER NOT NULL,
    link TEXT NOT NULL,         -- empty: none
    source TEXT NOT NULL,
    sub1 TEXT NOT NULL,
    lane INTEGER NOT NULL DEFAULT 0,
    clicks INTEGER NOT NULL,
    billable INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, lane)
) WITHOUT ROWID;
INSERT INTO click_rollups
    SELECT quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, 0, clicks, billable, rejected
    FROM click_rollups_without_lane;
DROP TABLE click_rollups_without_lane;
";

const FOURTH: &str = "
-- `parked`, 2: and was fed again in another spool; 3: an operator had the gap passed, for this reason and at this time.
ALTER TABLE quarantined ADD COLUMN reason TEXT;
ALTER TABLE quarantined ADD COLUMN at_ms INTEGER;
-- 1: applied to its end long ago. It fences as all do, and is looked up instead of being loaded with all others.
ALTER TABLE marks ADD COLUMN retired INTEGER NOT NULL DEFAULT 0;
CREATE INDEX marks_at_work ON marks (first_ms, spool) WHERE retired = 0;
-- So many records were shipped at least, by what stood behind gaps. It outlives them.
ALTER TABLE marks ADD COLUMN witnessed INTEGER NOT NULL DEFAULT 0;
UPDATE marks SET witnessed = gap + 1 WHERE gap IS NOT NULL;
-- What leaves for its age is found by it.
CREATE INDEX visitors_by_end ON visitors (until_ms);
";

const FIFTH: &str = "
-- When the gap that is open was written down, and when the state was (a seal: for the first time), by the store's clock.
ALTER TABLE marks ADD COLUMN gap_ms INTEGER;
ALTER TABLE spool_states ADD COLUMN written_ms INTEGER NOT NULL DEFAULT 0;
-- When an attribution last began, or got other partitions; and when one last said that it runs.
CREATE TABLE running (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    began_ms INTEGER NOT NULL,
    alive_ms INTEGER NOT NULL
);
INSERT INTO running VALUES (1, 0, 0);
-- How many were passed is asked all the time.
CREATE INDEX quarantined_passed ON quarantined (spool) WHERE parked = 3;
-- Up to this conversion nothing is left of who bought.
CREATE TABLE stripped (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    conversion INTEGER NOT NULL
);
INSERT INTO stripped VALUES (1, 0);
-- Since when it is known to be here; 0: not told yet, -1: the record is erased.
ALTER TABLE dead_letters ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0;
-- What leaves for its age is found by these.
CREATE INDEX dead_letters_by_age ON dead_letters (at_ms) WHERE at_ms >= 0;
CREATE INDEX conflicts_by_age ON conflicts (received_at_ms) WHERE event <> '{\"erased\":true}';
";
