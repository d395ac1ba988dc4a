-- Read tables, derived from events alone. Nothing here is the truth.

-- The ids by which events find each other. kind: velox_protocol::payload::LinkKind.
CREATE TABLE links (
    store_id   uuid NOT NULL,
    id         uuid NOT NULL,
    kind       smallint NOT NULL,
    event_id   varchar(255) COLLATE "C" NOT NULL,
    PRIMARY KEY (store_id, id, kind, event_id)
);

CREATE TABLE sales (
    store_id       uuid NOT NULL,
    id             uuid NOT NULL,
    device_id      text NOT NULL,
    session_id     uuid,
    customer_id    uuid,
    warehouse_id   uuid,
    currency       text,
    exchange_rate  numeric(18,6),
    total          numeric(18,2),
    total_bs       numeric(18,2),
    total_usd      numeric(18,2),
    payment_method text,
    series_id      uuid,
    invoice_number text,
    fiscal_number  text,
    sold_at        timestamptz(3) NOT NULL,
    created_at     timestamptz(3) NOT NULL,
    created_by     text,
    voided_at      timestamptz(3),
    voided_by      text,
    void_reason    text,
    void_event_id  text,
    note           text,
    event_id       varchar(255) COLLATE "C" NOT NULL,
    PRIMARY KEY (store_id, id)
);
CREATE INDEX sales_by_time ON sales (store_id, sold_at, id);

CREATE TABLE sale_items (
    store_id       uuid NOT NULL,
    sale_id        uuid NOT NULL,
    line_no        integer NOT NULL,
    product_id     uuid NOT NULL,
    variant_id     uuid,
    name           text,
    qty            numeric(18,3) NOT NULL,
    unit_price     numeric(18,4),
    unit_price_bs  numeric(18,4),
    unit_price_usd numeric(18,4),
    discount_bs    numeric(18,2),
    discount_usd   numeric(18,2),
    PRIMARY KEY (store_id, sale_id, line_no)
);

CREATE TABLE debts (
    store_id         uuid NOT NULL,
    id               uuid NOT NULL,
    customer_id      uuid,
    sale_id          uuid,
    total_amount     numeric(18,2) NOT NULL,
    remaining_amount numeric(18,2) NOT NULL,
    amount_bs        numeric(18,2),
    amount_usd       numeric(18,2),
    -- A sum over payments may have more digits than one of them.
    overpaid_amount  numeric(24,2) NOT NULL DEFAULT 0,
    status           text NOT NULL CHECK (status IN ('pending', 'partial', 'paid', 'cancelled')),
    currency         text,
    derived          boolean NOT NULL,
    notes            text,
    due_at           timestamptz(3),
    created_at       timestamptz(3) NOT NULL,
    created_by       text,
    updated_at       timestamptz(3) NOT NULL,
    event_id         varchar(255) COLLATE "C",
    PRIMARY KEY (store_id, id)
);
CREATE INDEX debts_by_time ON debts (store_id, created_at, id);
CREATE INDEX debts_by_customer ON debts (store_id, customer_id);

CREATE TABLE debt_payments (
    store_id       uuid NOT NULL,
    id             uuid NOT NULL,
    debt_id        uuid NOT NULL,
    amount         numeric(18,2) NOT NULL,
    amount_bs      numeric(18,2),
    amount_usd     numeric(18,2),
    payment_method text NOT NULL,
    reference      text,
    paid_at        timestamptz(3) NOT NULL,
    paid_by        text,
    notes          text,
    event_id       varchar(255) COLLATE "C" NOT NULL,
    PRIMARY KEY (store_id, id)
);
CREATE INDEX debt_payments_by_debt ON debt_payments (store_id, debt_id);

-- `registers`: velox_protocol::registers::Registers, the versions from which the columns are read.
CREATE TABLE products (
    store_id            uuid NOT NULL,
    id                  uuid NOT NULL,
    name                text,
    category            text,
    sku                 text,
    barcode             text,
    price               numeric(18,4),
    price_bs            numeric(18,4),
    price_usd           numeric(18,4),
    cost_bs             numeric(18,4),
    cost_usd            numeric(18,4),
    track_inventory     boolean,
    is_active           boolean,
    low_stock_threshold numeric(18,3),
    attributes          json NOT NULL DEFAULT '{}',
    created_at          timestamptz(3) NOT NULL,
    updated_at          timestamptz(3) NOT NULL,
    registers           json NOT NULL,
    PRIMARY KEY (store_id, id)
);

CREATE TABLE customers (
    store_id     uuid NOT NULL,
    id           uuid NOT NULL,
    name         text,
    document_id  text,
    phone        text,
    email        text,
    address      text,
    credit_limit numeric(18,2),
    notes        text,
    created_at   timestamptz(3) NOT NULL,
    updated_at   timestamptz(3) NOT NULL,
    registers    json NOT NULL,
    PRIMARY KEY (store_id, id)
);

CREATE TABLE cash_sessions (
    store_id           uuid NOT NULL,
    id                 uuid NOT NULL,
    register_id        text,
    opened_at          timestamptz(3),
    opened_by          text,
    opening_amount     numeric(18,2),
    opening_amount_bs  numeric(18,2),
    opening_amount_usd numeric(18,2),
    closed_at          timestamptz(3),
    closed_by          text,
    closing_amount     numeric(18,2),
    expected           json,
    counted            json,
    notes              text,
    opened_event_id    varchar(255) COLLATE "C",
    closed_event_id    varchar(255) COLLATE "C",
    registers          json NOT NULL,
    PRIMARY KEY (store_id, id)
);

CREATE TABLE cash_ledger_entries (
    store_id   uuid NOT NULL,
    id         uuid NOT NULL,
    session_id uuid,
    entry_type text NOT NULL,
    amount     numeric(18,2),
    amount_bs  numeric(18,2),
    amount_usd numeric(18,2),
    currency   text,
    reason     text,
    created_at timestamptz(3) NOT NULL,
    event_id   varchar(255) COLLATE "C" NOT NULL,
    PRIMARY KEY (store_id, id)
);
CREATE INDEX cash_ledger_entries_by_time ON cash_ledger_entries (store_id, created_at, id);

CREATE TABLE warehouses (
    store_id uuid NOT NULL,
    id       uuid NOT NULL,
    name     text NOT NULL,
    PRIMARY KEY (store_id, id)
);

CREATE TABLE warehouse_stock (
    store_id     uuid NOT NULL,
    product_id   uuid NOT NULL,
    variant_id   uuid NOT NULL,
    warehouse_id uuid NOT NULL,
    -- A sum over movements may have more digits than one of them.
    stock        numeric(24,3) NOT NULL,
    PRIMARY KEY (store_id, product_id, variant_id, warehouse_id)
) WITH (fillfactor = 50);
CREATE INDEX warehouse_stock_negative ON warehouse_stock (store_id) WHERE stock < 0;

CREATE TABLE stock_movements (
    store_id     uuid NOT NULL,
    id           uuid NOT NULL,
    product_id   uuid NOT NULL,
    variant_id   uuid NOT NULL,
    warehouse_id uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('sale', 'void', 'received', 'adjusted', 'delta')),
    qty_delta    numeric(18,3) NOT NULL,
    event_id     varchar(255) COLLATE "C" NOT NULL,
    sale_id      uuid,
    created_at   timestamptz(3) NOT NULL,
    PRIMARY KEY (store_id, id)
);
CREATE INDEX stock_movements_by_product ON stock_movements (store_id, product_id, created_at);
