-- +goose Up
-- What the customer sees of a message, while reactions, edits or a revocation of
-- ours wait for the provider's word: of the message itself, and of our reaction.
CREATE TABLE message_seen (
    message_id  BIGINT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    part        TEXT   NOT NULL, -- 'message' or 'reaction'
    content     TEXT   NOT NULL, -- the text, or the emoji
    media_id    BIGINT,
    location    TEXT,
    sender_name TEXT   NOT NULL DEFAULT '', -- of the reaction
    at          BIGINT, -- of the last edit, or of the reaction
    told_at     BIGINT, -- when that was done elsewhere, as the provider tells
    PRIMARY KEY (message_id, part)
);
CREATE INDEX message_seen_media ON message_seen (media_id) WHERE media_id IS NOT NULL;

-- +goose Down
DROP TABLE message_seen;
