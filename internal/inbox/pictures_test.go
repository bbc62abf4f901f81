package inbox_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// shelf keeps the bytes of files in memory.
type shelf map[string][]byte

func (s shelf) Put(_ context.Context, key string, r io.Reader, _ int64, _ string) (err error) {
	s[key], err = io.ReadAll(r)
	return err
}

func (s shelf) Delete(_ context.Context, key string) error {
	delete(s, key)
	return nil
}

// album fetches pictures, as a worker does.
type album struct {
	c     *customer
	lease store.Lease
	fetch *inbox.MediaFetch
	shelf shelf
}

func newAlbum(c *customer) *album {
	c.exec("INSERT INTO leases (channel_id, worker_id, term, expires_at) VALUES ($1, 'w', 1, 9999999999999)", c.channelID)
	a := &album{c: c, lease: store.Lease{ChannelID: c.channelID, WorkerID: "w", Term: 1}, shelf: shelf{}}
	a.fetch = inbox.NewMediaFetch(c.inbox, a.shelf, 1<<20)
	return a
}

func (a *album) due() []store.MediaJob {
	a.c.t.Helper()
	jobs, err := a.c.store.DueMedia(testkit.Context(a.c.t), store.MediaSearch{ChannelID: a.c.channelID, Limit: 10, Imported: 10})
	require.NoError(a.c.t, err)
	return jobs
}

func (a *album) fetchAll(open func(ref string) (io.ReadCloser, error)) (refs []string) {
	a.c.t.Helper()
	for _, job := range a.due() {
		refs = append(refs, job.Ref)
		require.NoError(a.c.t, a.fetch.Fetch(testkit.Context(a.c.t), a.c.who.OrganizationID, a.lease, job,
			func(_ context.Context, ref string) (io.ReadCloser, error) { return open(ref) }))
	}
	return refs
}

func given(ref string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewBufferString("picture " + ref)), nil
}

func gone(string) (io.ReadCloser, error) { return nil, &inbox.MediaGone{Message: "It is gone."} }

func picture(peer domain.Peer, id, ref string) domain.Inbound {
	return domain.Inbound{Contact: &domain.InboundContact{Peer: peer, Picture: &domain.InboundPicture{ID: id, Ref: ref}}}
}

func TestPicturesOfContacts(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		grace := peerOf(customerNumber, "")
		c.receive(text("1", "hi", c.store.Now()))
		chat := c.chats()[0]
		screen := newScreen(t, c)
		a := newAlbum(c)
		shown := func() *int64 { return c.chats()[0].Contact.AvatarMediaID }
		_, seen := c.since(0)
		c.receive(picture(grace, "1", "first"), picture(grace, "1", "first"))
		found, seen := c.since(seen)
		require.Empty(t, found, "it is not here yet")
		require.Nil(t, shown())
		require.Equal(t, []string{"first"}, a.fetchAll(given))
		found, _ = c.since(seen)
		require.Equal(t, []string{"chat:updated"}, found)
		first := *shown()
		file, key, err := c.store.MediaFile(ctx, c.who.OrganizationID, first)
		require.NoError(t, err)
		require.Equal(t, domain.MediaReady, file.State)
		require.Equal(t, "picture first", string(a.shelf[key]))
		other := newCustomer(t, c.store, "b")
		_, _, err = c.store.MediaFile(ctx, other.who.OrganizationID, first)
		require.Equal(t, domain.CodeNotFound, domain.CodeOf(err), "another organization")
		_, _, err = c.inbox.Send(ctx, c.who, inbox.SendInput{ChatID: chat.ID, MediaID: &first})
		require.Equal(t, domain.CodeInvalid, domain.CodeOf(err), "it is no file to send on")

		// Of two new ones the last counts, and the first is let go when that is here.
		c.receive(picture(grace, "2", "second"), picture(grace, "3", "third"))
		require.Equal(t, first, *shown())
		require.Equal(t, []string{"third"}, a.fetchAll(given))
		require.NotEqual(t, first, *shown())
		removed, err := c.inbox.SweepMedia(ctx, a.shelf)
		require.NoError(t, err)
		require.Equal(t, 2, removed)
		require.Len(t, a.shelf, 1)

		// One that cannot be had leaves the old one, and is tried again when it is told of again.
		third := *shown()
		c.receive(picture(grace, "4", "fourth"))
		require.Equal(t, []string{"fourth"}, a.fetchAll(gone))
		require.Equal(t, third, *shown())
		require.Empty(t, a.due())
		c.receive(picture(grace, "4", "fourth"))
		require.Equal(t, []string{"fourth"}, a.fetchAll(given))
		require.NotEqual(t, third, *shown())
		_, seen = c.since(0)

		c.receive(picture(grace, "", ""), picture(grace, "", ""))
		found, _ = c.since(seen)
		require.Equal(t, []string{"chat:updated"}, found)
		require.Nil(t, shown())
		screen.sameAsFresh()
		_, err = c.inbox.SweepMedia(ctx, a.shelf)
		require.NoError(t, err)
		require.Empty(t, a.shelf)
		require.Zero(t, c.count("SELECT COUNT(*) FROM media"))
	})
}

// Two contacts that are one have one picture; a channel that goes takes along what it was to fetch.
func TestPicturesThroughAMerge(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		at := c.store.Now().Add(-time.Hour)
		c.receive(from(peerOf(customerNumber, "Grace"), "1", "one", at), from(byLID(""), "2", "two", at+1000))
		a := newAlbum(c)
		c.receive(picture(byLID(""), "7", "by LID"))
		a.fetchAll(given)
		c.receive(picture(byLID(""), "8", "newer"), learned(""))
		require.NotNil(t, c.chats()[0].Contact.AvatarMediaID, "taken over")
		require.Equal(t, []string{"newer"}, a.fetchAll(given))
		_, err := c.inbox.SweepMedia(ctx, a.shelf)
		require.NoError(t, err)
		require.Len(t, a.shelf, 1)
		require.Equal(t, 1, c.count("SELECT COUNT(*) FROM media f JOIN contacts p ON p.picture_media_id = f.id AND f.contact_id = p.id"))

		c.receive(picture(both(""), "9", "never"))
		require.NoError(t, c.inbox.DeleteChannel(ctx, c.who, c.channelID))
		require.Empty(t, a.due())
		require.Equal(t, 1, c.count("SELECT COUNT(*) FROM contacts WHERE picture_id = '' AND picture_media_id IS NOT NULL"))
	})
}

// Deleting the chat of a contact leaves the picture, which other chats show.
func TestPictureOutlivesAChat(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		c.receive(text("1", "hi", c.store.Now()))
		a := newAlbum(c)
		c.receive(picture(peerOf(customerNumber, ""), "1", "first"))
		a.fetchAll(given)
		require.NoError(t, c.inbox.DeleteChat(testkit.Context(t), c.who, c.chats()[0].ID))
		c.receive(text("2", "back again", c.store.Now()))
		require.NotNil(t, c.chats()[0].Contact.AvatarMediaID)
	})
}
