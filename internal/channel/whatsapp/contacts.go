package whatsapp

import (
	"context"
	"sync"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// contacts are the library's, one call at a time: it changes an entry of its cache
// under a lock and copies it without one, while a handler asks for a name. None of
// this happens within a transaction.
type contacts struct {
	store.ContactStore

	mu sync.Mutex // held by each call
}

// PutPushName implements store.ContactStore.
func (c *contacts) PutPushName(ctx context.Context, user types.JID, name string) (bool, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ContactStore.PutPushName(ctx, user, name)
}

// PutBusinessName implements store.ContactStore.
func (c *contacts) PutBusinessName(ctx context.Context, user types.JID, name string) (bool, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ContactStore.PutBusinessName(ctx, user, name)
}

// PutContactName implements store.ContactStore.
func (c *contacts) PutContactName(ctx context.Context, user types.JID, fullName, firstName string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ContactStore.PutContactName(ctx, user, fullName, firstName)
}

// PutAllContactNames implements store.ContactStore.
func (c *contacts) PutAllContactNames(ctx context.Context, all []store.ContactEntry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ContactStore.PutAllContactNames(ctx, all)
}

// PutManyRedactedPhones implements store.ContactStore.
func (c *contacts) PutManyRedactedPhones(ctx context.Context, all []store.RedactedPhoneEntry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ContactStore.PutManyRedactedPhones(ctx, all)
}

// GetContact implements store.ContactStore.
func (c *contacts) GetContact(ctx context.Context, user types.JID) (types.ContactInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ContactStore.GetContact(ctx, user)
}
