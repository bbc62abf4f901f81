package whatsapp

import (
	"errors"
	"strings"

	"go.mau.fi/whatsmeow/types"

	"switchboard/internal/domain"
)

// Addresses, as chats and senders have them in the inbox: the digits of a phone
// number, "<digits>@lid", "<id>@g.us" for a group.

const (
	lidSuffix   = "@" + types.HiddenUserServer
	groupSuffix = "@" + types.GroupServer
)

// addressOf is the address of a person or a group; empty for what is neither
// (broadcast lists, statuses, newsletters, bots).
func addressOf(jid types.JID) string {
	switch jid.Server {
	case types.DefaultUserServer, types.HostedServer, types.LegacyUserServer:
		return jid.User
	case types.HiddenUserServer, types.HostedLIDServer:
		return jid.User + lidSuffix
	case types.GroupServer:
		return jid.User + groupSuffix
	default:
		return ""
	}
}

var errAddress = errors.New("whatsapp: not an address of a person or a group")

// parseAddress is the reverse.
func parseAddress(address string) (types.JID, error) {
	user, server, found := strings.Cut(address, "@")
	switch {
	case user == "":
	case !found && digits.MatchString(user):
		return types.NewJID(user, types.DefaultUserServer), nil
	case server == types.HiddenUserServer, server == types.GroupServer:
		return types.NewJID(user, server), nil
	}
	return types.EmptyJID, errAddress
}

// person is somebody under both addresses, as far as they are known.
type person struct{ pn, lid types.JID }

// personOf sorts two addresses of one person; other may be empty.
func personOf(jid, other types.JID) (p person) {
	for _, j := range []types.JID{jid, other} {
		switch j = j.ToNonAD(); j.Server {
		case types.DefaultUserServer, types.HostedServer, types.LegacyUserServer:
			p.pn = types.NewJID(j.User, types.DefaultUserServer)
		case types.HiddenUserServer, types.HostedLIDServer:
			p.lid = types.NewJID(j.User, types.HiddenUserServer)
		}
	}
	return p
}

// address is the one that the person goes by: the LID where it is known, since
// that is what WhatsApp itself sends to.
func (p person) address() string {
	if !p.lid.IsEmpty() {
		return addressOf(p.lid)
	}
	return addressOf(p.pn)
}

func (p person) identities() []domain.Identity {
	var ids []domain.Identity
	if !p.pn.IsEmpty() {
		ids = append(ids, domain.Identity{Kind: domain.IdentityPhone, Value: p.pn.User})
	}
	if !p.lid.IsEmpty() {
		ids = append(ids, domain.Identity{Kind: domain.IdentityLID, Value: addressOf(p.lid)})
	}
	return ids
}

func (p person) both() bool { return !p.pn.IsEmpty() && !p.lid.IsEmpty() }

func (p person) peer(name string) domain.Peer {
	return domain.Peer{Address: p.address(), Kind: domain.ChatDirect, Name: name, Identities: p.identities()}
}

func groupPeer(jid types.JID, name string) domain.Peer {
	address := addressOf(jid)
	return domain.Peer{
		Address: address, Kind: domain.ChatGroup, Name: name,
		Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: address}},
	}
}
