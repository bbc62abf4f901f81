package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/media"
	"switchboard/internal/safehttp"
)

func (w *world) command(id, chatID, messageID int64, kind domain.CommandKind, value string) {
	w.exec("INSERT INTO commands (id, organization_id, channel_id, chat_id, message_id, kind, value, created_at) VALUES (%d, 1, 1, %d, %d, '%s', '%s', 1)",
		id, chatID, messageID, kind, value)
}

// recorder is a Do that notes what it was given.
type recorder struct {
	mu   sync.Mutex // guards what follows
	done []domain.Command
	fail func(c domain.Command, try int) error
	try  map[int64]int
}

func (r *recorder) do(_ context.Context, c domain.Command) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.try == nil {
		r.try = map[int64]int{}
	}
	r.try[c.ID]++
	if r.fail != nil {
		if err := r.fail(c, r.try[c.ID]); err != nil {
			return err
		}
	}
	r.done = append(r.done, c)
	return nil
}

func (r *recorder) ids() (ids []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.done {
		ids = append(ids, c.ID)
	}
	return ids
}

func (w *world) eventuallyNoCommands() {
	w.t.Helper()
	w.eventually("all commands to be settled", func() bool { return w.one("SELECT COUNT(*) FROM commands") == "0" })
}

func TestCommands(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.chat(2, 1)
		w.inbound(1, 1, 1)
		w.inbound(2, 2, 1)
		w.exec("UPDATE messages SET sender_key = 'member' WHERE id = 2")
		w.queue(3, 1, 1)
		w.command(1, 1, 3, domain.CommandEdit, "new words") // waits for its message's send
		w.command(2, 1, 1, domain.CommandRead, "")          // does not wait for that
		w.command(3, 1, 1, domain.CommandReaction, "x")
		w.command(4, 2, 2, domain.CommandReaction, "y") // another chat
		r := &recorder{fail: func(c domain.Command, try int) error {
			if c.ID == 2 && try == 1 {
				return errors.New("connection reset") // unknown outcome: may be repeated
			}
			return nil
		}}
		release := make(chan struct{})
		w.provider.do = r.do
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			<-release
			return s.accept(out), nil
		}
		w.start("a", calm)
		w.eventually("the other chat's command", func() bool { return slices.Contains(r.ids(), 4) })
		require.NotContains(t, r.ids(), int64(1), "the message has no id yet")
		close(release)
		w.eventuallyNoCommands()
		order := slices.DeleteFunc(r.ids(), func(id int64) bool { return id == 4 })
		require.Less(t, slices.Index(order, 2), slices.Index(order, 3), "in order within the chat: %v", order)
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.done {
			switch c.ID {
			case 1:
				require.Equal(t, "out-3-1", c.TargetExternalID)
				require.True(t, c.TargetFromMe)
				require.Empty(t, c.TargetSender)
				require.Equal(t, "new words", c.Value)
				require.Equal(t, "peer-1", c.Peer)
			case 4:
				require.Equal(t, "in-2", c.TargetExternalID)
				require.Equal(t, "member", c.TargetSender)
				require.False(t, c.TargetFromMe)
			}
		}
	})
}

// TestCommandGivenUp: what operators see and customers do not is corrected or
// said.
func TestCommandGivenUp(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.inbound(1, 1, 1)
		w.queue(2, 1, 1)
		w.exec("UPDATE messages SET status = 'sent', external_id = 'o' WHERE id = 2")
		w.exec("INSERT INTO reactions (message_id, sender_key, emoji, from_me, sender_name, reacted_at) VALUES (1, 'me', 'x', true, '', 0)")
		w.command(1, 1, 1, domain.CommandReaction, "x")
		w.command(2, 1, 2, domain.CommandEdit, "words")
		w.command(3, 1, 1, domain.CommandRead, "")
		w.exec("UPDATE commands SET attempts = 9 WHERE id IN (2, 3)") // the last try
		r := &recorder{fail: func(c domain.Command, _ int) error {
			if c.ID == 1 {
				return &channel.SendError{Outcome: channel.Refused, Code: "refused", Message: "This emoji is not allowed."}
			}
			return &channel.SendError{Outcome: channel.NotSent, Code: "offline", Message: "The provider is down."}
		}}
		w.provider.do = r.do
		w.start("a", calm)
		w.eventuallyNoCommands()
		require.Empty(t, w.one("SELECT emoji FROM reactions WHERE message_id = 1"))
		require.Equal(t, "2", w.one("SELECT COUNT(*) FROM messages WHERE type = 'system'"), "a read receipt is not worth a note")
		require.Equal(t, "Your reaction did not reach the customer. This emoji is not allowed.",
			w.one("SELECT content FROM messages WHERE type = 'system' AND reply_to_id = 1"))
		require.Equal(t, "An edit did not reach the customer, who still sees the earlier text. The provider is down.",
			w.one("SELECT content FROM messages WHERE type = 'system' AND reply_to_id = 2"))
		require.Equal(t, "1", w.one("SELECT COUNT(*) FROM events WHERE name = 'message:updated'"))
		require.Equal(t, "2", w.one("SELECT COUNT(*) FROM events WHERE name = 'message:new'"))
	})
}

func (w *world) pendingMedia(id, messageID int64, ref, more string) {
	w.exec("INSERT INTO media (id, organization_id, channel_id, message_id, mime, state, provider_ref, created_at) VALUES (%d, 1, 1, %d, 'text/csv', 'pending', '%s', 0)",
		id, messageID, ref)
	w.exec("UPDATE messages SET media_id = %d, type = 'document' WHERE id = %d", id, messageID)
	if more != "" {
		w.exec("UPDATE media SET %s WHERE id = %d", more, id)
	}
}

func TestMediaIsFetched(t *testing.T) {
	const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x03\x00\x00\x00\x02\x08\x02\x00\x00\x00\x12\x16\xf1M"
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		for id := range int64(7) {
			w.inbound(id+1, 1, 1)
		}
		w.pendingMedia(1, 1, "image", "")
		w.pendingMedia(2, 2, "gone", "")
		w.pendingMedia(3, 3, "flaky", "")
		w.pendingMedia(4, 4, "huge", "")
		w.pendingMedia(5, 5, "altered", "sha256 = '00', attempts = 7")
		w.pendingMedia(6, 6, "poison", "attempts = 8") // it took the process down, again and again
		w.pendingMedia(7, 7, "longer", "")
		var mu sync.Mutex
		tries := map[string]int{}
		w.provider.fetch = func(_ context.Context, ref string) (io.ReadCloser, error) {
			mu.Lock()
			defer mu.Unlock()
			tries[ref]++
			switch {
			case ref == "gone":
				return nil, &channel.SendError{Outcome: channel.Refused, Code: "gone", Message: "Telegram has deleted this file."}
			case ref == "flaky" && tries[ref] == 1:
				return nil, &channel.SendError{Outcome: channel.NotSent, Code: "timeout"}
			case ref == "longer": // than its provider has said
				return nil, fmt.Errorf("download: %w", safehttp.ErrTooLarge)
			case ref == "huge":
				return io.NopCloser(strings.NewReader(strings.Repeat("x", 3000))), nil
			case ref == "image":
				return io.NopCloser(strings.NewReader(png)), nil
			}
			return io.NopCloser(strings.NewReader("a;b;c")), nil
		}
		files, err := media.NewFileSystem(t.TempDir())
		require.NoError(t, err)
		n := w.node("a", calm)
		n.o.Media = inbox.NewMediaFetch(n.inbox, files, 2000)
		require.NoError(t, n.Start(t.Context()))
		w.eventually("all downloads to be over", func() bool { return w.one("SELECT COUNT(*) FROM media WHERE state = 'pending'") == "0" })
		media := func(id int64) string {
			return w.one("SELECT state || '|' || mime || '|' || size || '|' || width || 'x' || height || '|' || error FROM media WHERE id = %d", id)
		}
		require.Equal(t, fmt.Sprintf("ready|image/png|%d|3x2|", len(png)), media(1))
		require.Equal(t, "failed|text/csv|0|0x0|Telegram has deleted this file.", media(2))
		require.True(t, strings.HasPrefix(media(3), "ready|text/"), media(3))
		require.Contains(t, media(4), "failed|text/csv|0|0x0|The file is larger than the")
		require.Contains(t, media(5), "failed|text/csv|0|0x0|The file arrived damaged")
		require.Contains(t, media(6), "failed|text/csv|0|0x0|The file could not be fetched")
		require.Contains(t, media(7), "failed|text/csv|0|0x0|The file is larger than is allowed")
		require.Equal(t, "7", w.one("SELECT COUNT(*) FROM events WHERE name = 'message:updated'"))
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, map[string]int{"image": 1, "gone": 1, "flaky": 2, "huge": 1, "altered": 1, "longer": 1}, tries)
		blob, err := files.Open(t.Context(), w.one("SELECT blob_key FROM media WHERE id = 1"))
		require.NoError(t, err)
		defer blob.Close()
		content, err := io.ReadAll(blob)
		require.NoError(t, err)
		require.Equal(t, png, string(content))
	})
}

// TestNewFilesBeforeHistory: what a customer sends now does not wait for the
// thousands of files of a history, for each of which a phone may have to be asked.
func TestNewFilesBeforeHistory(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		for id := range int64(20) {
			w.inbound(id+1, 1, 1)
			w.pendingMedia(id+1, id+1, "old", "imported = TRUE")
		}
		asked, arrived := make(chan struct{}, 20), make(chan struct{})
		var mu sync.Mutex
		atOnce, most := 0, 0
		w.provider.fetch = func(ctx context.Context, ref string) (io.ReadCloser, error) {
			if ref == "new" {
				close(arrived)
				return io.NopCloser(strings.NewReader("a;b;c")), nil
			}
			mu.Lock()
			atOnce++
			most = max(most, atOnce)
			mu.Unlock()
			asked <- struct{}{}
			select { // the phone does not answer
			case <-arrived:
			case <-ctx.Done():
			}
			mu.Lock()
			defer mu.Unlock()
			atOnce--
			return io.NopCloser(strings.NewReader("a;b;c")), ctx.Err()
		}
		files, err := media.NewFileSystem(t.TempDir())
		require.NoError(t, err)
		n := w.node("a", calm)
		n.o.Media = inbox.NewMediaFetch(n.inbox, files, 2000)
		require.NoError(t, n.Start(t.Context()))
		<-asked
		w.inbound(100, 1, 1)
		w.pendingMedia(100, 100, "new", "")
		w.eventually("the new file", func() bool { return w.one("SELECT state FROM media WHERE id = 100") == "ready" })
		w.eventually("the old files", func() bool { return w.one("SELECT COUNT(*) FROM media WHERE state = 'ready'") == "21" })
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, most)
	})
}

// TestMediaAfterCrash: a download that ended with the process is taken up by
// the next owner.
func TestMediaAfterCrash(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.inbound(1, 1, 1)
		w.pendingMedia(1, 1, "x", "")
		files, err := media.NewFileSystem(t.TempDir())
		require.NoError(t, err)
		begun := make(chan struct{}, 10)
		hang := true
		var mu sync.Mutex
		w.provider.fetch = func(ctx context.Context, _ string) (io.ReadCloser, error) {
			mu.Lock()
			hangs := hang
			hang = false
			mu.Unlock()
			begun <- struct{}{}
			if hangs {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return io.NopCloser(strings.NewReader("hello")), nil
		}
		with := func(name string) *node {
			n := w.node(name, func(o *Options) { o.LeaseTTL = 500 * time.Millisecond })
			n.o.Media = inbox.NewMediaFetch(n.inbox, files, 2000)
			require.NoError(t, n.Start(t.Context()))
			return n
		}
		a := with("a")
		<-begun
		a.kill()
		require.Equal(t, "pending", w.one("SELECT state FROM media WHERE id = 1"))
		with("b")
		w.eventually("the file", func() bool { return w.one("SELECT state FROM media WHERE id = 1") == "ready" })
		require.Equal(t, "2", w.one("SELECT attempts FROM media WHERE id = 1"))
	})
}
