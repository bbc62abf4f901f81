package whatsapp

import (
	"context"
	"strconv"

	"go.mau.fi/whatsmeow/appstate"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waServerSync"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// appState is what a phone and its devices share: settings, of which the push name is one. The server keeps patches that
// it cannot read; the phone made the first one. Guarded by Server.mu.
type appState struct {
	KeyID   []byte
	Key     []byte
	Patches map[string][][]byte // by collection; the version is the number of patches
}

// appStateKeys is the part of a store that an appstate.Processor asks for a first patch.
type appStateKeys struct {
	store.AppStateSyncKeyStore
	store.AppStateStore
	key []byte
}

func (k appStateKeys) GetAppStateSyncKey(context.Context, []byte) (*store.AppStateSyncKey, error) {
	return &store.AppStateSyncKey{Data: k.key}, nil
}

func (k appStateKeys) GetAppStateMutationMAC(context.Context, string, []byte) ([]byte, error) {
	return nil, nil
}

func newAppState(name string) (*appState, error) {
	a := &appState{KeyID: append([]byte{0, 0}, random(4)...), Key: random(32), Patches: map[string][][]byte{}}
	keys := appStateKeys{key: a.Key}
	proc := appstate.NewProcessor(&store.Device{AppStateKeys: keys, AppState: keys}, waLog.Noop)
	patch, err := proc.EncodePatch(context.Background(), a.KeyID, appstate.HashState{}, appstate.BuildSettingPushName(name))
	if err != nil {
		return nil, err
	}
	return a, a.add(string(appstate.WAPatchCriticalBlock), patch)
}

// add appends a patch, to which the server adds the version.
func (a *appState) add(collection string, patch []byte) error {
	var p waServerSync.SyncdPatch
	if err := proto.Unmarshal(patch, &p); err != nil {
		return err
	}
	p.Version = &waServerSync.SyncdVersion{Version: proto.Uint64(uint64(len(a.Patches[collection])) + 1)}
	b, err := proto.Marshal(&p)
	if err == nil {
		a.Patches[collection] = append(a.Patches[collection], b)
	}
	return err
}

// appStateLocked is the phone's state, made when it is asked for first.
func (s *Server) appStateLocked(p *phone) (*appState, error) {
	if p.state == nil {
		name := p.Name
		if name == "" {
			name = p.Number
		}
		state, err := newAppState(name)
		if err != nil {
			return nil, err
		}
		p.state = state
		s.changedLocked()
	}
	return p.state, nil
}

// iqAppState gives and takes patches.
func (s *Server) iqAppState(d *device, node *waBinary.Node) waBinary.Node {
	state, err := s.appStateLocked(d.phone)
	if err != nil {
		s.log.Error("the app state could not be made", slogErr(err))
		return iqError(node, 500, "internal-server-error")
	}
	sync := node.GetChildByTag("sync")
	var answers []waBinary.Node
	for _, c := range sync.GetChildren() {
		if c.Tag == "collection" {
			answers = append(answers, s.syncCollection(d, state, &c))
		}
	}
	return iqResult(node, waBinary.Node{Tag: "sync", Content: answers})
}

func (s *Server) syncCollection(d *device, state *appState, c *waBinary.Node) waBinary.Node {
	name, _ := c.Attrs["name"].(string)
	text, _ := c.Attrs["version"].(string)
	version, _ := strconv.Atoi(text)
	attrs := waBinary.Attrs{"name": name}
	patch := content(c, "patch")
	news := state.Patches[name][min(max(version, 0), len(state.Patches[name])):]
	if patch != nil && len(news) > 0 {
		attrs["type"] = "error"
		return waBinary.Node{Tag: "collection", Attrs: attrs, Content: []waBinary.Node{
			patchNodes(news), {Tag: "error", Attrs: waBinary.Attrs{"code": 409, "text": "conflict"}},
		}}
	}
	if patch != nil && state.add(name, patch) == nil {
		s.changedLocked()
		s.stateChangedLocked(d, name, len(state.Patches[name]))
	}
	attrs["version"] = len(state.Patches[name])
	return waBinary.Node{Tag: "collection", Attrs: attrs, Content: []waBinary.Node{patchNodes(news)}}
}

func patchNodes(patches [][]byte) waBinary.Node {
	nodes := []waBinary.Node{}
	for _, p := range patches {
		nodes = append(nodes, waBinary.Node{Tag: "patch", Content: p})
	}
	return waBinary.Node{Tag: "patches", Content: nodes}
}

// stateChangedLocked tells the phone's other devices that there is a patch.
func (s *Server) stateChangedLocked(by *device, name string, version int) {
	for _, d := range by.phone.devices {
		if d != by {
			s.notifyLocked(d, waBinary.Attrs{"from": pnJID(d.phone.Number), "type": "server_sync"},
				waBinary.Node{Tag: "collection", Attrs: waBinary.Attrs{"name": name, "version": version}})
		}
	}
}

// keyShare is how the phone gives a device the key of the app state.
func (a *appState) keyShare(now int64) *waE2E.ProtocolMessage {
	return &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE.Enum(),
		AppStateSyncKeyShare: &waE2E.AppStateSyncKeyShare{Keys: []*waE2E.AppStateSyncKey{{
			KeyID: &waE2E.AppStateSyncKeyId{KeyID: a.KeyID},
			KeyData: &waE2E.AppStateSyncKeyData{
				KeyData: a.Key, Timestamp: proto.Int64(now),
				Fingerprint: &waE2E.AppStateSyncKeyFingerprint{RawID: proto.Uint32(1), CurrentIndex: proto.Uint32(0), DeviceIndexes: []uint32{0}},
			},
		}}},
	}
}
