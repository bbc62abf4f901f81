-- +goose Up
-- How far the intake of a channel has come whose provider hands out what
-- follows a position (Telegram's offset). Written in the transaction of the
-- messages before it.
CREATE TABLE intakes (
    channel_id BIGINT PRIMARY KEY REFERENCES channels (id) ON DELETE CASCADE,
    position   TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
){{fillfactor}};

-- +goose Down
DROP TABLE intakes;
