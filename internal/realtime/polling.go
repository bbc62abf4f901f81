package realtime

import (
	"context"
	"net/http"
	"sync"

	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// longPolling makes the library's polling transport with one mend: the library sets a request's clean-up function after it
// has begun to watch for the request's end, so that a client that goes away at the wrong moment makes both touch the
// same field. Here the end of a request is told only after the transport has taken it in.
type longPolling struct{ transports.PollingBuilder }

func (*longPolling) New(ctx *types.HttpContext) transports.Transport {
	t := &pollingTransport{Polling: transports.MakePolling()}
	t.Prototype(t)
	t.Construct(ctx)
	return t
}

type pollingTransport struct{ transports.Polling }

func (t *pollingTransport) OnRequest(ctx *types.HttpContext) {
	t.Polling.OnRequest(ctx)
	if settled, found := ctx.Request().Context().Value(settledKey{}).(func()); found {
		settled()
	}
}

type settledKey struct{}

// settling returns r with a context whose end is held back until the transport has taken the request in, or until done is
// called, which the handler must do.
func settling(r *http.Request) (held *http.Request, done func()) {
	taken := make(chan struct{})
	settled := sync.OnceFunc(func() { close(taken) })
	ctx, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(r.Context()), settledKey{}, settled))
	stop := context.AfterFunc(r.Context(), func() {
		<-taken
		cancel()
	})
	return r.WithContext(ctx), func() {
		stop()
		settled()
		cancel()
	}
}
