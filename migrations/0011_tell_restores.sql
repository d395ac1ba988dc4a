-- Tells a database that was restored, copied or promoted from the one that the node had before.
ALTER TABLE node_identity
    -- System identifier, timeline and oid of the database that this row was last used in; NULL: nobody has looked, or
    -- the server does not say.
    ADD COLUMN database_id text,
    -- When the incarnation was last made anew.
    ADD COLUMN restored_at timestamptz(3);
