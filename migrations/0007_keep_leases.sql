-- What pods agree on beside the log: who may do what only one should do, and how it goes with peers.

-- A lease by its name. The token grows with every acquisition: whoever held it before is known by a smaller one.
-- Where Redis decides who gets it, the row still says for how long, for the time when Redis is away.
CREATE TABLE leases (
    name       text COLLATE "C" PRIMARY KEY,
    -- NULL: it was given back.
    holder     text,
    token      bigint NOT NULL,
    expires_at timestamptz(3)
);

-- How it went with a peer, for people, and which database it had.
CREATE TABLE peers_seen (
    peer            text COLLATE "C" PRIMARY KEY,
    -- When it last sent anything, a request or an answer, right or wrong.
    last_contact_at timestamptz(3),
    -- When it last answered as it should.
    last_success_at timestamptz(3),
    last_error      text,
    last_error_at   timestamptz(3),
    -- What it says of itself.
    node_id         text,
    incarnation     uuid
);

-- Nonces of signed requests, so that none is done twice, whichever pod gets it.
CREATE TABLE peer_nonces (
    key_id  text COLLATE "C" NOT NULL,
    nonce   text COLLATE "C" NOT NULL,
    seen_at timestamptz(3) NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id, nonce)
);
CREATE INDEX peer_nonces_by_time ON peer_nonces (seen_at);

-- Circuit breakers, as they are to stand after a restart.
CREATE TABLE peer_breakers (
    peer       text COLLATE "C" PRIMARY KEY,
    state      text NOT NULL CHECK (state IN ('CLOSED', 'OPEN', 'HALF_OPEN')),
    failures   integer NOT NULL,
    successes  integer NOT NULL,
    -- When it last opened; NULL: it is closed.
    opened_at  timestamptz(3),
    changed_at timestamptz(3) NOT NULL
);

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime')
       AND has_table_privilege('velox_runtime', 'events', 'INSERT') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON leases, peers_seen, peer_nonces, peer_breakers TO velox_runtime;
    END IF;
END $$;
