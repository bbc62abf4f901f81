package realtime

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// lateLibrary takes a poll in after something else has happened.
type lateLibrary struct {
	transports.Polling
	meanwhile func()
}

func (l *lateLibrary) OnRequest(ctx *types.HttpContext) {
	if ctx.Method() == http.MethodGet && l.meanwhile != nil {
		l.meanwhile()
		l.meanwhile = nil
	}
	l.Polling.OnRequest(ctx)
}

// A poll that comes when its connection was cut between two polls is answered, too.
func TestAPollAfterTheEndIsAnswered(t *testing.T) {
	t.Parallel()
	request := func() (*types.HttpContext, *httptest.ResponseRecorder) {
		answer := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/socket.io/?EIO=4&transport=polling", http.NoBody)
		return types.NewHttpContext(answer, r), answer
	}
	for name, end := range map[string]func(*pollingTransport){
		"cut":    func(p *pollingTransport) { p.Discard(); p.Close(func() {}) },
		"failed": func(p *pollingTransport) { p.OnClose() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, _ := request()
			p := newPolling(first, transports.MakePolling())
			p.begin()
			end(p)
			poll, answer := request()
			p.OnRequest(poll)
			require.Equal(t, closePacket, answer.Body.String())
		})
	}
}

// A poll that is on its way to the library when its connection is closed is answered: no client waits for the ping timeout.
func TestAPollThatMeetsTheEndIsAnswered(t *testing.T) {
	t.Parallel()
	for name, closing := range map[string]func(*pollingTransport, func()){
		"cut":     func(p *pollingTransport, done func()) { p.Discard(); p.Close(done) },
		"orderly": func(p *pollingTransport, done func()) { p.Close(done) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := func() (*types.HttpContext, *httptest.ResponseRecorder) {
				answer := httptest.NewRecorder()
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/socket.io/?EIO=4&transport=polling", http.NoBody)
				return types.NewHttpContext(answer, r), answer
			}
			closed := 0
			library := &lateLibrary{Polling: transports.MakePolling()}
			first, _ := request()
			p := newPolling(first, library)
			p.begin()
			library.meanwhile = func() { closing(p, func() { closed++ }) }
			poll, answer := request()
			p.OnRequest(poll)
			require.Equal(t, closePacket, answer.Body.String())
			require.Equal(t, http.StatusOK, answer.Code)
			require.Equal(t, 1, closed)

			late, answer := request()
			p.OnRequest(late)
			require.Equal(t, closePacket, answer.Body.String(), "it had found the session before the end")
			require.Equal(t, 1, closed)
		})
	}
}
