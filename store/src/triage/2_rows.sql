SELECT 'sales' AS kind, count(*) AS rows FROM sales WHERE store_id = $1
UNION ALL
SELECT 'voids', count(*) FROM sales WHERE store_id = $1 AND voided_at IS NOT NULL
UNION ALL
SELECT 'debts', count(*) FROM debts WHERE store_id = $1
UNION ALL
SELECT 'payments', count(*) FROM debt_payments WHERE store_id = $1
UNION ALL
SELECT 'sessions', count(*) FROM cash_sessions WHERE store_id = $1
UNION ALL
SELECT 'session_closings', count(*) FROM cash_sessions WHERE store_id = $1 AND closed_at IS NOT NULL
UNION ALL
SELECT 'products', count(*) FROM products WHERE store_id = $1
UNION ALL
SELECT 'customers', count(*) FROM customers WHERE store_id = $1
UNION ALL
SELECT 'stock', count(*) FROM stock_movements WHERE store_id = $1
UNION ALL
SELECT 'ledger', count(*) FROM cash_ledger_entries WHERE store_id = $1
UNION ALL
SELECT 'declarations', count(*) FROM stores WHERE store_id = $1 AND declared_by IS NOT NULL
