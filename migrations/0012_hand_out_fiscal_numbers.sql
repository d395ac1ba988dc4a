-- Fiscal numbers as this node hands them out, for the series that it owns. No event makes these rows: they are the
-- node's own promise, and a row is never removed.

-- For the constraint below. A trusted extension: whoever may create in the database may create it.
CREATE EXTENSION IF NOT EXISTS btree_gist;

-- The next number of a series. One UPDATE moves it, so that two who reserve at once wait for each other.
CREATE TABLE fiscal_counters (
    store_id    uuid NOT NULL,
    series_id   uuid NOT NULL,
    next_number bigint NOT NULL CHECK (next_number >= 0),
    -- The restore after which the counter has jumped; NULL: none.
    jumped_for  timestamptz(3),
    PRIMARY KEY (store_id, series_id)
);

CREATE TABLE fiscal_sequence_ranges (
    store_id    uuid NOT NULL,
    id          uuid NOT NULL,
    series_id   uuid NOT NULL,
    -- Empty: nobody's, numbers that were passed over after a restore.
    device_id   text NOT NULL,
    range_start bigint NOT NULL,
    range_end   bigint NOT NULL,
    -- The last number that the device is known to have used; range_start - 1: none.
    used_up_to  bigint NOT NULL,
    status      text NOT NULL CHECK (status IN ('active', 'exhausted', 'expired')),
    granted_at  timestamptz(3) NOT NULL,
    expires_at  timestamptz(3) NOT NULL,
    -- When the device last told, or asked for, a number; NULL: never.
    reported_at timestamptz(3),
    PRIMARY KEY (store_id, id),
    CHECK (range_start >= 0 AND range_start <= range_end AND used_up_to BETWEEN range_start - 1 AND range_end),
    CONSTRAINT fiscal_ranges_do_not_overlap EXCLUDE USING gist
        (store_id WITH =, series_id WITH =, int8range(range_start, range_end, '[]') WITH &&)
);
CREATE UNIQUE INDEX fiscal_ranges_one_active ON fiscal_sequence_ranges (store_id, series_id, device_id)
    WHERE status = 'active';
CREATE INDEX fiscal_ranges_by_number ON fiscal_sequence_ranges (store_id, series_id, range_end);
CREATE INDEX fiscal_ranges_to_expire ON fiscal_sequence_ranges (expires_at) WHERE status = 'active';

-- What a request was answered with, so that it is answered so again.
CREATE TABLE fiscal_requests (
    store_id   uuid NOT NULL,
    device_id  text NOT NULL,
    request_id text NOT NULL,
    range_id   uuid NOT NULL,
    PRIMARY KEY (store_id, device_id, request_id)
);

-- Numbers that were asked for one by one, for a sale.
CREATE TABLE fiscal_consumptions (
    store_id  uuid NOT NULL,
    series_id uuid NOT NULL,
    sale_id   uuid NOT NULL,
    number    bigint NOT NULL,
    PRIMARY KEY (store_id, series_id, sale_id)
);

-- The number that a sale bears in its series: the digits at the end, behind any prefix.
CREATE FUNCTION fiscal_number_of(fiscal_number text, invoice_number text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(substring(fiscal_number, '(?:^|[^0-9])([0-9]{1,15})$'),
        substring(invoice_number, '(?:^|[^0-9])([0-9]{1,15})$'))::bigint;
CREATE INDEX sales_by_fiscal_number ON sales (store_id, series_id, fiscal_number_of(fiscal_number, invoice_number))
    WHERE series_id IS NOT NULL;

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime')
       AND has_table_privilege('velox_runtime', 'events', 'INSERT') THEN
        GRANT SELECT, INSERT, UPDATE ON fiscal_counters, fiscal_sequence_ranges, fiscal_requests, fiscal_consumptions
            TO velox_runtime;
        -- What was handed out is never forgotten.
        REVOKE DELETE ON fiscal_counters, fiscal_sequence_ranges, fiscal_requests, fiscal_consumptions
            FROM velox_runtime;
    END IF;
END $$;
