-- The role as which a node works: it may add events and never change or remove one. Where no role can be made
-- the trigger of the event log stands alone. Roles belong to the server, so another database may have made it.

DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime') THEN
        CREATE ROLE velox_runtime NOLOGIN;
    END IF;
    IF NOT pg_has_role('velox_runtime', 'pg_read_all_stats', 'MEMBER') THEN
        -- A pull reads from pg_stat_activity which transactions are open.
        GRANT pg_read_all_stats TO velox_runtime;
    END IF;
EXCEPTION
    -- Two databases that are migrated at once meet here; and not every owner may make roles.
    WHEN duplicate_object OR unique_violation OR insufficient_privilege OR internal_error THEN
        RAISE NOTICE 'role velox_runtime: %', SQLERRM;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime')
       AND pg_has_role('velox_runtime', 'pg_read_all_stats', 'MEMBER') THEN
        GRANT USAGE ON SCHEMA public TO velox_runtime;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO velox_runtime;
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO velox_runtime;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO velox_runtime;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO velox_runtime;
        REVOKE UPDATE, DELETE ON events, event_variants FROM velox_runtime;
    END IF;
END $$;
