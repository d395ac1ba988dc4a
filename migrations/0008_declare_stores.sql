-- Home and owner: what StoreDeclared and FiscalSeriesDeclared say. Of several events the smallest stands.

-- The event that home_node and default_warehouse_id are of. A store may be known without one: then nobody has
-- declared it, and whatever stood there was this node's own guess.
ALTER TABLE stores ADD COLUMN declared_by varchar(255) COLLATE "C";
UPDATE stores SET home_node = NULL;

CREATE TABLE fiscal_series (
    store_id    uuid NOT NULL,
    series_id   uuid NOT NULL,
    name        text,
    prefix      text,
    -- The first number, as it was declared. What was handed out is not counted here: the row is made of events.
    next_number bigint NOT NULL,
    -- NULL: the store's home.
    owner_node  text,
    declared_by varchar(255) COLLATE "C" NOT NULL,
    PRIMARY KEY (store_id, series_id)
);
