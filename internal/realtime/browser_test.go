package realtime

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// browserPage connects with each choice of transports, gathers events until the seq that it was given, and survives a cut.
const browserPage = `<!doctype html><meta charset="utf-8"><script src="/socket.io.js"></script><script>
const ask = new URLSearchParams(location.search), until = Number(ask.get("until"));
const tell = (body) => fetch("/report", {method: "POST", body: JSON.stringify(body)});
const run = (name, token, options) => {
  const seqs = [], transports = [], disconnects = [];
  let position, connections = 0, half = false;
  const socket = io(ask.get("url"), {...options, forceNew: true, reconnectionDelay: 50, auth: (f) => f({token, lastSeq: 0, ...position})});
  socket.on("connect", () => {
    connections++;
    transports.push(socket.io.engine.transport.name);
    socket.io.engine.on("upgrade", (t) => transports.push(t.name));
  });
  socket.on("connect_error", (e) => tell({name, error: e.message}));
  socket.on("disconnect", (reason) => disconnects.push(reason));
  socket.on("message:new", (data, meta) => {
    if (position && meta.seq <= position.lastSeq) return;
    position = {lastSeq: meta.seq, epoch: meta.epoch};
    seqs.push(meta.seq);
    if (!half && meta.seq >= until / 2) { half = true; tell({name, half: true}); }
    if (meta.seq === until) {
      socket.emit("subscribe:chat", {chatId: 1001}, (answer) => {
        tell({name, done: true, seqs, transports, disconnects, connections, answer});
        socket.close();
      });
    }
  });
};
run("websocket", ask.get("websocket"), {transports: ["websocket"]});
run("polling", ask.get("polling"), {transports: ["polling"]});
run("upgrade", ask.get("upgrade"), {});
</script>`

type browserReport struct {
	Name        string          `json:"name"`
	Error       string          `json:"error"`
	Half        bool            `json:"half"`
	Done        bool            `json:"done"`
	Seqs        []int64         `json:"seqs"`
	Transports  []string        `json:"transports"`
	Disconnects []string        `json:"disconnects"`
	Connections int             `json:"connections"`
	Answer      json.RawMessage `json:"answer"`
}

func TestInABrowser(t *testing.T) {
	t.Parallel()
	const events = 1000
	w, _ := miniWorld(t)
	reports := make(chan browserReport, 100)
	page := httptest.NewServer(browserPages(t, reports))
	t.Cleanup(page.Close)
	n := w.node(func(o *Options) { o.AllowedOrigins = []string{page.URL} })

	address := page.URL + "/?url=" + n.url + "&until=1000"
	for i, name := range []string{"websocket", "polling", "upgrade"} {
		address += "&" + name + "=" + w.user(1, int64(10+i))
	}
	w.log.commitMany(1, 200)
	browse(t, address)

	half, done := 0, map[string]browserReport{}
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for sent := 200; len(done) < 3; {
		select {
		case <-pace.C:
			// The second half waits until all have come so far and were cut.
			if sent < events/2 || (half == 3 && sent < events) {
				w.publish(n.Emitter(), 1, 10)
				sent += 10
			}
		case r := <-reports:
			require.Empty(t, r.Error, r.Name)
			if r.Half {
				if half++; half == 3 {
					for _, c := range n.watched() {
						c.close("test")
					}
				}
			}
			if r.Done {
				done[r.Name] = r
			}
		case <-timer.C:
			t.Fatalf("the browser has not told all: %d halves, %d ends", half, len(done))
		}
	}
	for name, transports := range map[string][]string{
		"websocket": {"websocket", "websocket"}, "polling": {"polling", "polling"},
		"upgrade": {"polling", "websocket", "polling", "websocket"},
	} {
		r := done[name]
		require.Equal(t, 2, r.Connections, name)
		require.Subset(t, transports, r.Transports, name) // the last upgrade may come after the last event
		require.JSONEq(t, okAnswer, string(r.Answer))
		require.Len(t, r.Seqs, events, name)
		for i, seq := range r.Seqs {
			require.Equal(t, int64(i+1), seq, name)
		}
		require.Len(t, r.Disconnects, 1)
		require.Contains(t, []string{"transport close", "transport error"}, r.Disconnects[0])
	}
}

// browserPages serves the page and the client's own bundle, and takes the reports.
func browserPages(t *testing.T, reports chan<- browserReport) http.Handler {
	t.Helper()
	_, dir := testkit.Node(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(rw, browserPage)
	})
	mux.HandleFunc("GET /socket.io.js", func(rw http.ResponseWriter, r *http.Request) {
		http.ServeFile(rw, r, filepath.Join(dir, "node_modules", "socket.io-client", "dist", "socket.io.js"))
	})
	mux.HandleFunc("POST /report", func(rw http.ResponseWriter, r *http.Request) {
		var report browserReport
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		reports <- report
	})
	return mux
}

// browse opens an address in a browser without a window, which ends with the test.
func browse(t *testing.T, address string) {
	t.Helper()
	profile, err := os.MkdirTemp("", "browser") // not TempDir: the browser's processes write into it until they are gone
	require.NoError(t, err)
	browser := exec.Command(testkit.Chromium(t), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--user-data-dir="+profile, address)
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, browser.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-browser.Process.Pid, syscall.SIGKILL) // with its children
		_ = browser.Wait()
		_ = os.RemoveAll(profile)
	})
}
