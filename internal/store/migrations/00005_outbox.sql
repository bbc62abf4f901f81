-- +goose Up
-- How urgent a message is that waits to be sent: 0 normal, 1 bulk.
ALTER TABLE messages ADD COLUMN priority SMALLINT NOT NULL DEFAULT 0;

-- The first unsent message of a chat, of each priority, is found by one probe.
DROP INDEX messages_outbox;
CREATE INDEX messages_outbox ON messages (channel_id, chat_id, priority, id) WHERE status IN ('queued', 'sending');

-- The line of chats that have something to send. A worker that looks for the
-- next messages reads its head, however many messages wait behind it.
--
-- A chat with a queued message has a row, which the triggers below see to,
-- whoever queues it or moves it here from another chat. The opposite need not
-- hold, and a row may be earlier or more urgent than its chat: the claim puts
-- right what it meets. A new message is due by the database's clock at the
-- latest: that of the process that queued it may be ahead.
CREATE TABLE outbox (
    chat_id    BIGINT PRIMARY KEY REFERENCES chats (id) ON DELETE CASCADE,
    channel_id BIGINT   NOT NULL,
    priority   SMALLINT NOT NULL, -- of the chat's most urgent queued message
    due_at     BIGINT   NOT NULL -- since when the chat's first message may go, or from when on
){{fillfactor}};
CREATE INDEX outbox_line ON outbox (channel_id, priority, due_at, chat_id);

INSERT INTO outbox (chat_id, channel_id, priority, due_at)
    SELECT chat_id, channel_id, 0, MIN(created_at) FROM messages
    WHERE status IN ('queued', 'sending') AND status = 'queued' GROUP BY chat_id, channel_id;

{{postgres}}
-- +goose StatementBegin
CREATE FUNCTION enter_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The row is locked even where it stays as it is: a claim either sees the
    -- message, or leaves the row in place.
    INSERT INTO outbox (chat_id, channel_id, priority, due_at)
        VALUES (NEW.chat_id, NEW.channel_id, NEW.priority,
            GREATEST(LEAST(NEW.created_at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), NEW.next_attempt_at))
        ON CONFLICT (chat_id) DO UPDATE
            SET priority = LEAST(outbox.priority, excluded.priority), due_at = LEAST(outbox.due_at, excluded.due_at)
            WHERE outbox.priority > excluded.priority OR outbox.due_at > excluded.due_at;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER messages_enter_outbox AFTER INSERT OR UPDATE OF status, chat_id ON messages
    FOR EACH ROW WHEN (NEW.status = 'queued') EXECUTE FUNCTION enter_outbox();
{{end}}
{{sqlite}}
-- +goose StatementBegin
CREATE TRIGGER messages_enter_outbox AFTER INSERT ON messages WHEN NEW.status = 'queued'
BEGIN
    INSERT INTO outbox (chat_id, channel_id, priority, due_at)
        VALUES (NEW.chat_id, NEW.channel_id, NEW.priority,
            max(min(NEW.created_at, CAST(unixepoch('subsec') * 1000 AS INTEGER)), NEW.next_attempt_at))
        ON CONFLICT (chat_id) DO UPDATE
            SET priority = min(outbox.priority, excluded.priority), due_at = min(outbox.due_at, excluded.due_at);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER messages_reenter_outbox AFTER UPDATE OF status, chat_id ON messages WHEN NEW.status = 'queued'
BEGIN
    INSERT INTO outbox (chat_id, channel_id, priority, due_at)
        VALUES (NEW.chat_id, NEW.channel_id, NEW.priority,
            max(min(NEW.created_at, CAST(unixepoch('subsec') * 1000 AS INTEGER)), NEW.next_attempt_at))
        ON CONFLICT (chat_id) DO UPDATE
            SET priority = min(outbox.priority, excluded.priority), due_at = min(outbox.due_at, excluded.due_at);
END;
-- +goose StatementEnd
{{end}}

-- +goose Down
{{postgres}}
DROP TRIGGER messages_enter_outbox ON messages;
DROP FUNCTION enter_outbox();
{{end}}
{{sqlite}}
DROP TRIGGER messages_enter_outbox;
DROP TRIGGER messages_reenter_outbox;
{{end}}
DROP TABLE outbox;
DROP INDEX messages_outbox;
CREATE INDEX messages_outbox ON messages (channel_id, chat_id, id) WHERE status IN ('queued', 'sending');
ALTER TABLE messages DROP COLUMN priority;
