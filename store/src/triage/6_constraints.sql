SELECT conrelid::regclass || ' CONSTRAINT ' || conname || ' ' || pg_get_constraintdef(oid) AS line
FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid::regclass::text <> '_sqlx_migrations'
UNION ALL
SELECT regexp_replace(indexdef, ' ON public\.', ' ON ') FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'
UNION ALL
SELECT tgrelid::regclass || ' TRIGGER ' || tgname FROM pg_trigger WHERE NOT tgisinternal
ORDER BY 1
