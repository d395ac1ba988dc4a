SELECT type, count(*) AS events,
       count(DISTINCT coalesce(
           CASE
               WHEN type IN ('SaleCreated', 'SaleVoided') THEN payload->>'sale_id'
               WHEN type = 'DebtCreated' THEN payload->>'debt_id'
               WHEN type IN ('DebtPaymentRecorded', 'DebtPaymentAdded') THEN payload->>'payment_id'
               WHEN type IN ('CashSessionOpened', 'CashSessionClosed')
                   THEN coalesce(nullif(payload->>'session_id', ''), payload->>'cash_session_id')
               WHEN type IN ('CustomerCreated', 'CustomerUpdated') THEN payload->>'customer_id'
               WHEN type = 'CashLedgerEntryCreated' THEN payload->>'entry_id'
               ELSE payload->>'product_id' END,
           event_id)) AS entities,
       min(created_at) AS oldest, max(created_at) AS newest
FROM effective_events
WHERE store_id = $1 AND received_at > now() - interval '30 days'
GROUP BY type ORDER BY type
