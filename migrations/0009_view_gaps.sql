-- Events without the rows that they should have made, whatever their status says; those that wait, are absorbed or
-- skipped have none and miss none. Rows are looked up by keys that stand in the payload, so that each event costs one
-- look; where those say nothing, by the event, since an event may mean a row of another id. Bound it by store_id and
-- received_at.
CREATE VIEW event_gaps AS
SELECT e.store_id, e.event_id, e.type, e.received_at, e.failed_since
FROM (
    SELECT f.*, CASE WHEN k.id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN k.id::uuid END AS id
    FROM (
        SELECT e.store_id, e.event_id, CASE WHEN v.effective THEN v.type ELSE e.type END AS type,
               CASE WHEN v.effective THEN v.payload ELSE e.payload END AS payload, e.received_at,
               x.since AS failed_since
        FROM events e
        LEFT JOIN event_variants v ON v.store_id = e.store_id AND v.event_id = e.event_id AND v.effective
        LEFT JOIN event_exceptions x ON x.store_id = e.store_id AND x.event_id = e.event_id
        WHERE x.status IS NULL OR x.status = 'failed') AS f
    CROSS JOIN LATERAL (SELECT CASE
        WHEN f.type IN ('SaleCreated', 'SaleVoided') THEN f.payload->>'sale_id'
        WHEN f.type = 'DebtCreated' THEN f.payload->>'debt_id'
        WHEN f.type IN ('DebtPaymentRecorded', 'DebtPaymentAdded') THEN f.payload->>'payment_id'
        WHEN f.type = 'CashLedgerEntryCreated' THEN f.payload->>'entry_id'
        WHEN f.type IN ('CashSessionOpened', 'CashSessionClosed')
            THEN coalesce(nullif(f.payload->>'session_id', ''), f.payload->>'cash_session_id')
        WHEN f.type IN ('CustomerCreated', 'CustomerUpdated') THEN f.payload->>'customer_id'
        WHEN f.type = 'FiscalSeriesDeclared' THEN f.payload->>'series_id'
        ELSE f.payload->>'product_id' END AS id) AS k) AS e
WHERE CASE
    WHEN e.type = 'SaleCreated' THEN NOT EXISTS (SELECT 1 FROM sales r
            WHERE r.store_id = e.store_id AND r.id = e.id AND r.event_id = e.event_id)
        OR (NOT EXISTS (SELECT 1 FROM sale_items i WHERE i.store_id = e.store_id AND i.sale_id = e.id)
            AND (e.payload->'items')::text ~ '^\[\s*[^]\s]')
        -- A credit sale is a debt, too.
        OR EXISTS (SELECT 1 FROM sales r
            WHERE r.store_id = e.store_id AND r.id = e.id AND r.payment_method = 'FIAO'
              AND r.customer_id IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM debts d WHERE d.store_id = r.store_id
                  AND d.customer_id = r.customer_id AND d.sale_id = r.id)
              AND NOT EXISTS (SELECT 1 FROM debts d
                  WHERE d.store_id = r.store_id AND d.sale_id = r.id))
    WHEN e.type = 'SaleVoided' THEN NOT EXISTS (SELECT 1 FROM sales r
            WHERE r.store_id = e.store_id AND r.id = e.id AND r.void_event_id = e.event_id)
        AND NOT EXISTS (SELECT 1 FROM sales r
            WHERE r.store_id = e.store_id AND r.void_event_id = e.event_id)
    WHEN e.type = 'DebtCreated' THEN NOT EXISTS (SELECT 1 FROM debts r
        WHERE r.store_id = e.store_id AND r.id = e.id AND r.event_id = e.event_id)
    WHEN e.type IN ('DebtPaymentRecorded', 'DebtPaymentAdded') THEN NOT EXISTS (
        SELECT 1 FROM debt_payments r
        WHERE r.store_id = e.store_id AND r.id = e.id AND r.event_id = e.event_id)
    WHEN e.type = 'CashLedgerEntryCreated' THEN NOT EXISTS (SELECT 1 FROM cash_ledger_entries r
        WHERE r.store_id = e.store_id AND r.id = e.id AND r.event_id = e.event_id)
    WHEN e.type = 'CashSessionOpened' THEN NOT EXISTS (SELECT 1 FROM cash_sessions r
        WHERE r.store_id = e.store_id AND r.id = e.id AND r.opened_event_id IS NOT NULL)
    WHEN e.type = 'CashSessionClosed' THEN NOT EXISTS (SELECT 1 FROM cash_sessions r
        WHERE r.store_id = e.store_id AND r.id = e.id AND r.closed_event_id IS NOT NULL
          AND r.closed_at IS NOT NULL)
    WHEN e.type IN ('ProductCreated', 'ProductUpdated', 'ProductDeactivated', 'PriceChanged')
        THEN NOT EXISTS (SELECT 1 FROM products r WHERE r.store_id = e.store_id AND r.id = e.id)
    WHEN e.type IN ('CustomerCreated', 'CustomerUpdated')
        THEN NOT EXISTS (SELECT 1 FROM customers r WHERE r.store_id = e.store_id AND r.id = e.id)
    WHEN e.type IN ('StockReceived', 'StockAdjusted', 'StockDeltaApplied')
        THEN NOT EXISTS (SELECT 1 FROM stock_movements r
            WHERE r.store_id = e.store_id AND r.product_id = e.id AND r.event_id = e.event_id)
        AND NOT EXISTS (SELECT 1 FROM stock_movements r
            WHERE r.store_id = e.store_id AND r.event_id = e.event_id)
        -- A list of nothing moves nothing.
        AND (e.payload->'items')::text !~ '^\[\s*\]$' IS NOT FALSE
    WHEN e.type = 'StoreDeclared' THEN NOT EXISTS (SELECT 1 FROM stores r
        WHERE r.store_id = e.store_id AND r.declared_by = e.event_id)
    WHEN e.type = 'FiscalSeriesDeclared' THEN NOT EXISTS (SELECT 1 FROM fiscal_series r
        WHERE r.store_id = e.store_id AND r.series_id = e.id AND r.declared_by = e.event_id)
    ELSE false END;
