-- +goose Up
-- When the last send of a message of ours began: what was sent can be changed for a
-- while, however long it waited before.
ALTER TABLE messages ADD COLUMN sent_at BIGINT;

-- +goose Down
ALTER TABLE messages DROP COLUMN sent_at;
