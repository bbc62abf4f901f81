-- The peer of the benchmark: what Switchboard does for one message in a known chat, statement for statement, as a pgbench script.
-- A test compares these statements with those that Switchboard sends. NULL and '' stand literally, because pgbench has no
-- such parameters; what is the same for every message comes by -D.
\set organization random(1, :organizations)
\set customer 49000000000 + :organization * 1000000 + random(1, :chats)
\set external random(1, 9000000000000000000)
\set n :n + 1
\set at :begin + :n
INSERT INTO webhook_deliveries (kind, channel_ids, body, received_at, claimed_until) VALUES (:kind, :channels, :body, :at, :at) RETURNING id \gset delivery_
begin;
SELECT ch.kind, c.id AS chat_id, c.contact_id, p.name AS contact_name
	FROM channels ch
	LEFT JOIN chats c ON c.channel_id = ch.id AND c.peer = :customer
	LEFT JOIN contacts p ON p.id = c.contact_id
	WHERE ch.id = :organization AND ch.organization_id = :organization AND ch.deleted_at IS NULL \gset
INSERT INTO messages (organization_id, chat_id, channel_id, channel_kind, type, content, media_id, location, template,
		reply_to_id, reply_to_external_id, from_me, sender_user_id, sender_key, sender_name, status, priority, external_id, client_message_id,
		provider_time, created_at)
	VALUES (:organization, :chat_id, :organization, :kind, :type, :content, NULL, NULL, NULL, NULL, NULL, :from_me, NULL, '', :name, :status, :priority, :external, NULL, :at, :at)
	ON CONFLICT DO NOTHING
	RETURNING id, EXISTS (SELECT 1 FROM early_updates u WHERE u.channel_id = :organization AND u.external_id = :external) AS early \gset message_
UPDATE chats AS c SET unread_count = c.unread_count + 1, status = CASE WHEN c.status = 'resolved' THEN 'open' ELSE c.status END, last_inbound_at = CASE WHEN c.last_inbound_at < :at THEN :at ELSE c.last_inbound_at END,
		last_message_id = CASE WHEN c.last_message_at IS NULL OR c.last_message_at <= :at THEN :message_id ELSE c.last_message_id END,
		last_message_content = CASE WHEN c.last_message_at IS NULL OR c.last_message_at <= :at THEN :content ELSE c.last_message_content END,
		last_message_type = CASE WHEN c.last_message_at IS NULL OR c.last_message_at <= :at THEN :type ELSE c.last_message_type END,
		last_message_from_me = CASE WHEN c.last_message_at IS NULL OR c.last_message_at <= :at THEN :from_me ELSE c.last_message_from_me END,
		last_message_created_at = CASE WHEN c.last_message_at IS NULL OR c.last_message_at <= :at THEN :at ELSE c.last_message_created_at END,
		last_message_at = CASE WHEN c.last_message_at IS NULL OR c.last_message_at <= :at THEN :at ELSE c.last_message_at END,
		activity_at = CASE WHEN c.activity_at < :at THEN :at ELSE c.activity_at END, updated_at = :at FROM contacts p WHERE c.id = :chat_id AND c.organization_id = :organization AND p.id = c.contact_id AND TRUE RETURNING c.id, c.organization_id, c.channel_id, c.channel_kind, c.kind, c.peer, c.contact_id, c.status, c.assignee_id,
	c.unread_count, c.tags, c.ticket_id, c.last_message_id, c.last_message_content, c.last_message_type, c.last_message_from_me,
	c.last_message_at, c.last_message_created_at, c.last_inbound_at, c.read_up_to_id, c.activity_at, c.created_at, c.updated_at,
	p.name AS contact_name, p.phone AS contact_phone, p.username AS contact_username, p.picture_media_id AS contact_picture_media_id;
WITH head AS (UPDATE event_heads SET seq = seq + :events WHERE organization_id = :organization RETURNING seq, epoch), appended AS (INSERT INTO events (organization_id, seq, name, data, at) SELECT :organization, head.seq - :events + line.n, line.name, line.data, :at FROM head, unnest(:event_names::text[], :event_data::text[]) WITH ORDINALITY AS line (name, data, n)), dropped AS (DELETE FROM webhook_deliveries WHERE id = ANY(ARRAY[:delivery_id]::bigint[])) SELECT seq, epoch FROM head;
commit;
