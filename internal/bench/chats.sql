-- A database as a large installation has it after two years. {{chats}} chats, 40% of them of organization 1, the rest shared by twelve
-- others; {{rounds}} messages in each, written in turns, so that those of one chat lie far apart on the disk; one chat of organization 1
-- with {{long}} more. h is a number below 1000 that has nothing to do with its neighbour's.

SET session_replication_role = replica; -- foreign keys hold by construction
SET maintenance_work_mem = '512MB';
SET synchronous_commit = off;

CREATE FUNCTION pg_temp.h(i bigint, salt bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT abs(hashint8extended(i, salt) % 1000)';

-- Indexes are made anew at the end, which is faster than keeping them up to date.
CREATE TEMPORARY TABLE kept_indexes AS
	SELECT indexname, indexdef FROM pg_indexes i WHERE schemaname = 'public'
		AND tablename IN ('contacts', 'contact_terms', 'identities', 'chats', 'chat_tags', 'messages')
		AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname);
DO $$ DECLARE name text; BEGIN FOR name IN SELECT indexname FROM kept_indexes LOOP EXECUTE format('DROP INDEX %I', name); END LOOP; END $$;

INSERT INTO organizations (id, name, created_at) SELECT o, 'Organization ' || o, 0 FROM generate_series(1, 13) o;
INSERT INTO event_heads (organization_id, epoch) SELECT o, 'bench' FROM generate_series(1, 13) o;
INSERT INTO users (id, organization_id, name, email, password_hash, role, active, created_at, updated_at)
	SELECT (o - 1) * 40 + u, o, 'Operator ' || u, 'operator' || u || '@' || o || '.example.com', '-', 'operator', true, 0, 0
	FROM generate_series(1, 13) o, generate_series(1, 40) u;
INSERT INTO channels (id, organization_id, kind, name, config, enabled, state, state_since, created_at, updated_at)
	SELECT (o - 1) * 5 + c, o, 'waba', 'Number ' || c, '{}', true, 'connected', 0, 0, 0 FROM generate_series(1, 13) o, generate_series(1, 5) c;

INSERT INTO contacts (id, organization_id, name, phone, created_at, updated_at)
	SELECT i, CASE WHEN i <= {{chats}} * 2 / 5 THEN 1 ELSE 2 + i % 12 END,
		(ARRAY['Maria','José','Ana','Luis','Fatima','Ali','Wei','Priya','Ivan','Olga','John','Mary','Ahmed','Aisha','Chen','Yuki','Peter','Anna',
			'Carlos','Sofia','David','Laura','Marco','Elena','Tom','Emma','Noah','Mia','Omar','Leila','Igor','Nina','Paul','Eva','Max','Lena','Raj','Mei','Juan','Rosa'])
			[1 + pg_temp.h(i, 1) % 40] || ' ' ||
		(ARRAY['Garcia','Smith','Müller','Lopez','Khan','Wang','Silva','Ivanov','Sato','Kim','Rossi','Novak','Haddad','Okafor','Jensen','Dubois','Costa','Singh',
			'Popov','Meyer','Santos','Ali','Nguyen','Brown','Weber','Martin','Cruz','Ortiz','Petrov','Ahmad','Fischer','Moreau','Ricci','Lind','Berg','Yilmaz','Shah','Das','Lee','Park'])
			[1 + pg_temp.h(i, 2) % 40],
		'49' || (15000000000 + i * 7919), 0, 0
	FROM generate_series(1, {{chats}}::bigint) i;
INSERT INTO identities (organization_id, kind, value, contact_id) SELECT organization_id, 'phone', phone, id FROM contacts;
INSERT INTO contact_terms (organization_id, term, contact_id)
	SELECT DISTINCT organization_id, term, id FROM contacts,
		unnest(ARRAY[phone, '<' || reverse(phone)] || string_to_array(translate(lower(name), 'éü', 'eu'), ' ')) term;

INSERT INTO chats (id, organization_id, channel_id, channel_kind, kind, peer, contact_id, status, assignee_id, unread_count, tags,
		last_message_id, last_message_content, last_message_type, last_message_from_me, last_message_at, last_message_created_at, last_inbound_at,
		activity_at, created_at, updated_at)
	SELECT i, organization_id,
		(organization_id - 1) * 5 + CASE WHEN pg_temp.h(i, 3) < 550 THEN 1 WHEN pg_temp.h(i, 3) < 800 THEN 2 WHEN pg_temp.h(i, 3) < 950 THEN 3 WHEN pg_temp.h(i, 3) < 999 THEN 4 ELSE 5 END,
		'waba', 'direct', phone, i, status,
		CASE WHEN pg_temp.h(i, 5) < CASE status WHEN 'open' THEN 750 ELSE 900 END THEN (organization_id - 1) * 40 + 1 + pg_temp.h(i, 6) % 40 END,
		CASE WHEN status = 'open' AND pg_temp.h(i, 7) < 300 THEN 1 + pg_temp.h(i, 8) % 5 ELSE 0 END,
		tags, ({{rounds}} - 1) * {{chats}} + i, 'Thank you, that answers my question number ' || i, 'text', false, at, at, at, at, at, at
	FROM (SELECT id AS i, organization_id, phone,
			CASE WHEN pg_temp.h(id, 4) < 30 THEN 'open' WHEN pg_temp.h(id, 4) < 40 THEN 'pending' ELSE 'resolved' END AS status,
			CASE WHEN pg_temp.h(id, 9) < 100 THEN '["vip"]' WHEN pg_temp.h(id, 9) < 110 THEN '["refund"]'
				WHEN pg_temp.h(id, 9) < 118 THEN '["return"]' WHEN pg_temp.h(id, 9) < 122 THEN '["parcel"]'
				WHEN pg_temp.h(id, 9) = 999 AND pg_temp.h(id, 10) < 500 THEN '["legal"]' ELSE '[]' END AS tags,
			1795000000000 - (63072000000 * ((pg_temp.h(id, 11) * 1000 + pg_temp.h(id, 12)) / 1000000.0) ^ 2)::bigint AS at
		FROM contacts) c;
INSERT INTO chat_tags (organization_id, tag, chat_id) SELECT organization_id, trim('[]"' FROM tags), id FROM chats WHERE tags <> '[]';

INSERT INTO messages (id, organization_id, chat_id, channel_id, channel_kind, type, content, from_me, sender_key, sender_name, status, external_id, provider_time, created_at)
	SELECT r * {{chats}} + c.id, c.organization_id, c.id, c.channel_id, 'waba', 'text', 'Thank you, that answers my question number ' || c.id || ', round ' || r,
		r % 2 = 0, CASE WHEN r % 2 = 0 THEN 'me' ELSE '' END, 'Ann Example', CASE WHEN r % 2 = 0 THEN 'read' ELSE 'received' END,
		'wamid.HBgN' || md5((r * {{chats}} + c.id)::text) || 'AA==', at, at
	FROM generate_series(0, {{rounds}}::bigint - 1) r, LATERAL (SELECT id, organization_id, channel_id, last_message_at - ({{rounds}} - 1 - r) * 21600000 AS at FROM chats ORDER BY id) c;
INSERT INTO messages (id, organization_id, chat_id, channel_id, channel_kind, type, content, from_me, sender_key, sender_name, status, external_id, provider_time, created_at)
	SELECT {{rounds}} * {{chats}}::bigint + j, 1, c.id, c.channel_id, 'waba', 'text', 'Line ' || j, false, '', 'Ann Example', 'received',
		'wamid.HBgN' || md5('long' || j) || 'AA==', c.last_message_at - j * 60000::bigint, c.last_message_at
	FROM generate_series(1, {{long}}::bigint) j, chats c WHERE c.id = 1;

DO $$ DECLARE definition text; BEGIN FOR definition IN SELECT indexdef FROM kept_indexes LOOP EXECUTE definition; END LOOP; END $$;
