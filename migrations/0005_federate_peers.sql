-- Where an event came from, and what a peer said of those that it was given.

-- origin_node is the node that took the event from its till; this is the peer that brought it here.
ALTER TABLE events ADD COLUMN from_peer text;
ALTER TABLE event_variants ADD COLUMN from_peer text;

-- Hex SHA-256 of the payloads as the peer has them, in the order of event_ids; NULL where it did not say.
ALTER TABLE relay_deliveries ADD COLUMN peer_hashes text[];
CREATE INDEX relay_deliveries_by_time ON relay_deliveries (sent_at);
