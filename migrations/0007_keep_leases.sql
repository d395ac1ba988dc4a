-- What pods agree on beside the log: who may do what only one should do.

-- A lease by its name. The token grows with every acquisition: whoever held it before is known by a smaller one.
-- Where Redis decides who gets it, the row still says for how long, for the time when Redis is away.
CREATE TABLE leases (
    name       text COLLATE "C" PRIMARY KEY,
    -- NULL: it was given back.
    holder     text,
    token      bigint NOT NULL,
    expires_at timestamptz(3)
);

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime')
       AND has_table_privilege('velox_runtime', 'events', 'INSERT') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON leases TO velox_runtime;
    END IF;
END $$;
