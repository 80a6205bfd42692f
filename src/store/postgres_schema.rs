//! The tables in PostgreSQL, as steps forward. A step that was released is never edited: add another.
//!
//! As in SQLite, but for touches, which are in Redis. Text is compared byte by byte there and here.

pub const VERSION: i64 = MIGRATIONS.len() as i64;

pub const MIGRATIONS: &[&str] = &[FIRST, SECOND, THIRD];

/// Says what the schema is and of which version: one row. Made before all steps.
pub const VERSION_TABLE: &str = "
CREATE TABLE afflux_schema (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL
);
INSERT INTO afflux_schema VALUES (1, 0);
";

/// Spool IDs and visitor keys are their 64 bits as a signed integer; times are milliseconds since 1970.
const FIRST: &str = r#"
-- How far each spool is applied. `next` is the number of the first record that is not.
CREATE TABLE marks (
    spool BIGINT PRIMARY KEY,
    topic TEXT COLLATE "C" NOT NULL,
    next BIGINT NOT NULL,
    sealed BIGINT,  -- how many records it has, once it gets no more
    first_ms BIGINT,  -- time of the first record applied
    last_ms BIGINT,  -- time of the latest record applied
    gap BIGINT  -- the number that stood where `next` was due; the spool waits
);
-- Records that the disk lost: named, counted, passed.
CREATE TABLE quarantined (
    spool BIGINT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    parked BIGINT NOT NULL,  -- 1: no disk lost it, Kafka would not take it
    PRIMARY KEY (spool, first)
);
-- Records that could not be applied, as they came.
CREATE TABLE dead_letters (
    spool BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    record BYTEA NOT NULL,
    told BIGINT NOT NULL DEFAULT 0,  -- 1: Kafka has it too
    PRIMARY KEY (spool, seq)
);
CREATE INDEX dead_letters_to_tell ON dead_letters (spool, seq) WHERE told = 0;
CREATE TABLE catalogs (
    hash TEXT COLLATE "C" PRIMARY KEY,
    rulebook TEXT COLLATE "C" NOT NULL,
    active BIGINT NOT NULL
);
CREATE UNIQUE INDEX one_catalog_is_active ON catalogs (active) WHERE active = 1;

-- Facts of one order: the report that won, and what came to be known since.
CREATE TABLE conversions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversion_id TEXT COLLATE "C" NOT NULL UNIQUE,
    merchant_id BIGINT NOT NULL,
    order_id TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    occurred_at_ms BIGINT NOT NULL,
    content_hash TEXT COLLATE "C" NOT NULL,
    report TEXT COLLATE "C" NOT NULL,
    spool BIGINT NOT NULL,  -- the record that won
    seq BIGINT NOT NULL,
    own_click TEXT COLLATE "C" NOT NULL,
    touches BYTEA NOT NULL,  -- click IDs, 36 bytes each
    extent BIGINT NOT NULL,  -- 0 all of the visitor's clicks, 1 those that may make a difference, 2 not all were read
    status TEXT COLLATE "C",  -- the merchant's, the latest received
    status_received_ms BIGINT,
    status_spool BIGINT,
    status_seq BIGINT,
    catalog TEXT COLLATE "C" NOT NULL,  -- the terms of the first decision hold for all later ones
    settings TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,  -- of the latest decision
    booked_ms BIGINT NOT NULL,  -- when the latest of its facts was received
    UNIQUE (order_id, merchant_id, type)
);
-- Whose late click may still change what: clicks from `since_ms` to `until_ms` are facts of the conversion.
CREATE TABLE visitors (
    visitor BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    conversion BIGINT NOT NULL,
    PRIMARY KEY (visitor, until_ms, conversion)
);
-- One row: the latest times seen.
CREATE TABLE horizon (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    click_ms BIGINT NOT NULL,  -- of a click
    until_ms BIGINT NOT NULL  -- of `visitors`
);
INSERT INTO horizon VALUES (1, 0, 0);
CREATE TABLE decisions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversion BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    facts TEXT COLLATE "C" NOT NULL,
    decision TEXT COLLATE "C" NOT NULL,
    UNIQUE (conversion, revision)
);
-- Reports of an order or a refund that differ from the one that won.
CREATE TABLE conflicts (
    spool BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    conversion_id TEXT COLLATE "C" NOT NULL,
    refund_id TEXT COLLATE "C",
    content_hash TEXT COLLATE "C" NOT NULL,
    received_at_ms BIGINT NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (spool, seq)
);
CREATE INDEX conflicts_of_a_conversion ON conflicts (conversion_id);
CREATE TABLE refunds (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant_id BIGINT NOT NULL,
    refund_id TEXT COLLATE "C" NOT NULL,
    conversion_id TEXT COLLATE "C" NOT NULL,
    content_hash TEXT COLLATE "C" NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    waiting BIGINT NOT NULL,  -- 1 until its order comes
    UNIQUE (merchant_id, refund_id)
);
CREATE INDEX refunds_of_a_conversion ON refunds (conversion_id);
CREATE INDEX refunds_waiting ON refunds (waiting) WHERE waiting = 1;

-- Double entry, append only.
CREATE TABLE entries (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry_id TEXT COLLATE "C" NOT NULL UNIQUE,
    conversion BIGINT NOT NULL,
    revision BIGINT NOT NULL,  -- counts the sets of a conversion; a decision that moves nothing has none
    line BIGINT NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    amount BIGINT NOT NULL,
    at_ms BIGINT NOT NULL  -- when the latest of the facts behind it was received
);
CREATE INDEX entries_of_a_conversion ON entries (conversion);
CREATE FUNCTION entries_stay() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'entries are never edited or removed'; END $$;
CREATE TRIGGER entries_are_never_edited BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION entries_stay();
CREATE TRIGGER entries_are_never_emptied BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION entries_stay();

-- The latest decision once more, as reports group it: a row per publisher, or one without.
CREATE TABLE shares (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversion BIGINT NOT NULL,
    occurred_at_ms BIGINT NOT NULL,
    merchant_id BIGINT NOT NULL,
    offer_id BIGINT,
    publisher_id BIGINT,
    link TEXT COLLATE "C",
    source TEXT COLLATE "C",
    sub1 TEXT COLLATE "C",
    type TEXT COLLATE "C" NOT NULL,
    coupon_code TEXT COLLATE "C",
    currency TEXT COLLATE "C" NOT NULL,
    amount BIGINT NOT NULL,  -- of the conversion, what is not refunded
    commission BIGINT NOT NULL,
    reversed BIGINT NOT NULL
);
CREATE INDEX shares_of_a_conversion ON shares (conversion);
CREATE INDEX shares_by_time ON shares (occurred_at_ms, conversion);

-- Clicks in quarter hours: every offset of a time zone is a multiple of one.
CREATE TABLE click_rollups (
    quarter_ms BIGINT NOT NULL,
    publisher_id BIGINT NOT NULL,
    merchant_id BIGINT NOT NULL,
    offer_id BIGINT NOT NULL,
    link TEXT COLLATE "C" NOT NULL,  -- empty: none
    source TEXT COLLATE "C" NOT NULL,
    sub1 TEXT COLLATE "C" NOT NULL,
    lane BIGINT NOT NULL DEFAULT 0,
    clicks BIGINT NOT NULL,
    billable BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    PRIMARY KEY (quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, lane)
);
-- Tells this store from all others.
CREATE TABLE identity (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    id BIGINT NOT NULL
);
INSERT INTO identity VALUES
    (1, (floor(random() * 4294967296)::bigint << 32) | floor(random() * 4294967296)::bigint);
-- Conversions that wait for their first or their final decision.
CREATE TABLE waiting (
    conversion BIGINT PRIMARY KEY,
    since_ms BIGINT NOT NULL,
    stand BIGINT NOT NULL  -- 0 not decided, 1 provisional, 2 for a key that is not listed
);
CREATE INDEX waiting_longest ON waiting (stand, since_ms, conversion);
-- Where in Kafka to go on reading: a hint.
CREATE TABLE offsets (
    topic TEXT COLLATE "C" NOT NULL,
    partition BIGINT NOT NULL,
    next BIGINT NOT NULL,
    last BIGINT NOT NULL,  -- tells the record before it from that of a topic made anew; 0: not known
    PRIMARY KEY (topic, partition)
);
-- What edges told of their spools last.
CREATE TABLE spool_states (
    spool BIGINT PRIMARY KEY,
    seq BIGINT,  -- the last number on disk
    topic TEXT COLLATE "C" NOT NULL,
    edge TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    shipped BIGINT NOT NULL,
    oldest_unshipped_ms BIGINT,
    unspooled BIGINT NOT NULL,
    late BIGINT NOT NULL,
    sealed BIGINT NOT NULL,
    partition BIGINT NOT NULL
);
-- Revisions of decisions that are still to be told.
CREATE TABLE outbox (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversion BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
"#;

const SECOND: &str = r#"
-- `parked`, 2: and was fed again in another spool; 3: an operator had the gap passed, for this reason and at this time.
ALTER TABLE quarantined ADD COLUMN reason TEXT COLLATE "C";
ALTER TABLE quarantined ADD COLUMN at_ms BIGINT;
-- 1: applied to its end long ago. It fences as all do, and is looked up instead of being loaded with all others.
ALTER TABLE marks ADD COLUMN retired BIGINT NOT NULL DEFAULT 0;
CREATE INDEX marks_at_work ON marks (first_ms, spool) WHERE retired = 0;
-- So many records were shipped at least, by what stood behind gaps. It outlives them.
ALTER TABLE marks ADD COLUMN witnessed BIGINT NOT NULL DEFAULT 0;
UPDATE marks SET witnessed = gap + 1 WHERE gap IS NOT NULL;
-- What leaves for its age is found by it.
CREATE INDEX visitors_by_end ON visitors (until_ms);
"#;

const THIRD: &str = r#"
-- When the gap that is open was written down, and when the state was (a seal: for the first time), by the store's clock.
ALTER TABLE marks ADD COLUMN gap_ms BIGINT;
ALTER TABLE spool_states ADD COLUMN written_ms BIGINT NOT NULL DEFAULT 0;
-- When an attribution last began, or got other partitions; and when one last said that it runs.
CREATE TABLE running (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    began_ms BIGINT NOT NULL,
    alive_ms BIGINT NOT NULL
);
INSERT INTO running VALUES (1, 0, 0);
-- How many were passed is asked all the time.
CREATE INDEX quarantined_passed ON quarantined (spool) WHERE parked = 3;
-- Up to this conversion nothing is left of who bought.
CREATE TABLE stripped (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    conversion BIGINT NOT NULL
);
INSERT INTO stripped VALUES (1, 0);
-- Since when it is known to be here; 0: not told yet, -1: the record is erased.
ALTER TABLE dead_letters ADD COLUMN at_ms BIGINT NOT NULL DEFAULT 0;
-- What leaves for its age is found by these.
CREATE INDEX dead_letters_by_age ON dead_letters (at_ms) WHERE at_ms >= 0;
CREATE INDEX conflicts_by_age ON conflicts (received_at_ms) WHERE event <> '{"erased":true}';
"#;
