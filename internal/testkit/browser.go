package testkit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// Browser is a page in a Chromium without a window, which a test looks at and acts on. It ends with the test.
type Browser struct {
	t       testing.TB
	in      io.WriteCloser
	session string

	mu      sync.Mutex // guards what follows
	last    int
	waiting map[int]chan devtoolsAnswer // nil once the browser is gone
}

// devtoolsAnswer is one message of the browser's debugging protocol.
type devtoolsAnswer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Browse opens an address in a new browser. The page believes that somebody looks at it.
func Browse(t testing.TB, address string) *Browser {
	t.Helper()
	profile, err := os.MkdirTemp("", "browser") // not TempDir: the browser's processes write into it until they are gone
	if err != nil {
		t.Fatal(err)
	}
	commands, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Chromium(t), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", "--window-size=1280,900",
		"--user-data-dir="+profile, "about:blank")
	cmd.ExtraFiles = []*os.File{commands, answers} // the browser's descriptors 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	err = cmd.Start()
	_, _ = commands.Close(), answers.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := &Browser{t: t, in: in, waiting: map[int]chan devtoolsAnswer{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(out)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its children
		_ = cmd.Wait()
		_, _ = in.Close(), out.Close()
		<-read
		_ = os.RemoveAll(profile)
	})
	var target struct {
		TargetID  string `json:"targetId"`
		SessionID string `json:"sessionId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.call("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true}, nil)
	b.Go(address)
	return b
}

// Go opens an address.
func (b *Browser) Go(address string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": address}, nil)
}

// Text evaluates a JavaScript expression and returns what it gives as a string; an exception fails the test.
func (b *Browser) Text(expression string) string {
	b.t.Helper()
	value, err := b.evaluate(expression)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// Until waits until an expression gives something that is true, and returns it as a string. It fails the test when that takes
// longer than 90 s. An exception counts as not yet.
func (b *Browser) Until(what, expression string) string {
	b.t.Helper()
	ctx, cancel := context.WithDeadline(b.t.Context(), waitLimit(b.t, waitAtMost))
	defer cancel()
	var found string
	err := poll(ctx, func(context.Context) error {
		value, err := b.evaluate("(" + expression + ") || ''")
		if err == nil && value == "" {
			err = errors.New("it is not there")
		}
		found = value
		return err
	})
	if err != nil {
		shown, _ := b.evaluate("document.body.innerText")
		b.t.Fatalf("waited on the page for %s: %v. It shows:\n%s", what, err, shown)
	}
	return found
}

// Shows waits until a text is on the page.
func (b *Browser) Shows(text string) {
	b.t.Helper()
	b.Until("the text "+literal(text), "document.body.innerText.includes("+literal(text)+")")
}

// inFront is the topmost dialog, or else the page.
const inFront = `([...document.querySelectorAll("dialog[open]")].at(-1) ?? document)`

// Press presses the button or follows the link of a name as soon as it is there; in a dialog, if one is open.
func (b *Browser) Press(name string) {
	b.t.Helper()
	b.Until("the button "+literal(name), fmt.Sprintf(`((name) => {
		const named = (e) => e.innerText.trim() === name || e.getAttribute("aria-label") === name;
		const found = [...%s.querySelectorAll("button, a")].find((e) => named(e) && !e.disabled);
		found?.click();
		return !!found;
	})(%s)`, inFront, literal(name)))
}

// Fill writes into the field that a selector finds; in a dialog, if one is open.
func (b *Browser) Fill(selector, text string) {
	b.t.Helper()
	b.Until("the field "+selector, fmt.Sprintf(`((selector, text) => {
		const field = %s.querySelector(selector);
		if (!field) return false;
		field.focus();
		Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set.call(field, text);
		field.dispatchEvent(new Event("input", { bubbles: true }));
		return true;
	})(%s, %s)`, inFront, literal(selector), literal(text)))
}

// literal writes a string in JavaScript.
func literal(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return string(raw)
}

func (b *Browser) evaluate(expression string) (string, error) {
	b.t.Helper()
	var answer struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": "String(" + expression + ")", "returnByValue": true}, &answer)
	if e := answer.ExceptionDetails; e != nil {
		return "", fmt.Errorf("the page throws %s in %s", e.Exception.Description, expression)
	}
	value, _ := answer.Result.Value.(string)
	return value, nil
}

// call sends a command and waits for what it gives.
func (b *Browser) call(method string, params map[string]any, into any) {
	b.t.Helper()
	answer := make(chan devtoolsAnswer, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	if b.waiting == nil {
		close(answer)
	} else {
		b.waiting[id] = answer
	}
	b.mu.Unlock()
	command := map[string]any{"id": id, "method": method, "params": params}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	raw, err := json.Marshal(command)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(raw, 0)); err != nil {
		b.t.Fatalf("the browser does not take %s: %v", method, err)
	}
	select {
	case a, open := <-answer:
		if !open {
			b.t.Fatalf("the browser ended before it answered %s", method)
		}
		if a.Error != nil {
			b.t.Fatalf("the browser refuses %s: %s", method, a.Error.Message)
		}
		if into == nil {
			return
		}
		if err := json.Unmarshal(a.Result, into); err != nil {
			b.t.Fatalf("read the browser's answer to %s: %v", method, err)
		}
	case <-Context(b.t).Done():
		b.t.Fatalf("the browser does not answer %s", method)
	}
}

// read hands the browser's answers to who waits for them, until it ends.
func (b *Browser) read(out io.Reader) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, waits := range b.waiting {
			close(waits)
		}
		b.waiting = nil
	}()
	for messages := bufio.NewReader(out); ; {
		raw, err := messages.ReadBytes(0)
		if err != nil {
			return
		}
		var a devtoolsAnswer
		if json.Unmarshal(raw[:len(raw)-1], &a) != nil || a.ID == 0 {
			continue // an event
		}
		b.mu.Lock()
		waits := b.waiting[a.ID]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		if waits != nil {
			waits <- a // it has room for one
		}
	}
}
