package bench

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed ingest.sql
var pgbenchScript string

// scriptStatements are the statements of the script, normalized.
func scriptStatements() []string {
	var lines []string
	for line := range strings.Lines(pgbenchScript) {
		if !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, `\`) {
			lines = append(lines, line)
		}
	}
	var statements []string
	for _, statement := range regexp.MustCompile(`;|\\gset\b.*`).Split(strings.Join(lines, ""), -1) {
		if normal := normalize(statement); normal != "" {
			statements = append(statements, normal)
		}
	}
	return statements
}

var (
	parameter = regexp.MustCompile(`\$\d+|([^:]):[a-z_]+\b|\bNULL\b|''`)
	space     = regexp.MustCompile(`\s+`)
	inside    = regexp.MustCompile(`\( | \)`)
	array     = regexp.MustCompile(`ARRAY\[\?\]`)
)

// normalize brings a statement of the product and one of the script to the same form: one kind of space, a question mark for
// every parameter, for NULL and ”, and for an array of one parameter.
func normalize(statement string) string {
	statement = parameter.ReplaceAllString(statement, "${1}?")
	statement = space.ReplaceAllString(strings.TrimSpace(statement), " ")
	return array.ReplaceAllString(inside.ReplaceAllStringFunc(statement, strings.TrimSpace), "?")
}

// checkScript reports the first statement in which the script is not what the product does.
func checkScript(product []string) error {
	script := scriptStatements()
	for i := range max(len(script), len(product)) {
		var theirs, ours string
		if i < len(script) {
			theirs = script[i]
		}
		if i < len(product) {
			ours = normalize(product[i])
		}
		if ours != theirs {
			return fmt.Errorf("statement %d of ingest.sql is not the product's any more: bring it up to date\nproduct: %s\nscript:  %s", i+1, ours, theirs)
		}
	}
	return nil
}

// pgbenchRun is one round of pgbench.
type pgbenchRun struct {
	databaseURL string
	customers   Customers
	connections int
	duration    time.Duration
	probe       probe
}

// pgbenchResult is what it measured.
type pgbenchResult struct {
	perSecond float64
	messages  int
}

var (
	perSecondLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	countLine     = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failedLine    = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
)

// run plays the script with prepared statements for the duration.
func (r pgbenchRun) run(ctx context.Context) (pgbenchResult, error) {
	program, err := findProgram("pgbench")
	if err != nil {
		return pgbenchResult{}, err
	}
	dir, err := os.MkdirTemp("", "switchboard-bench-")
	if err != nil {
		return pgbenchResult{}, fmt.Errorf("make the script's folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	script := filepath.Join(dir, "ingest.sql")
	if err := os.WriteFile(script, []byte(pgbenchScript), 0o600); err != nil {
		return pgbenchResult{}, fmt.Errorf("write the script: %w", err)
	}
	args := []string{
		"--no-vacuum", "--protocol=prepared", "--client=" + strconv.Itoa(r.connections), "--jobs=2",
		"--time=" + strconv.Itoa(int(r.duration.Seconds())), "--file=" + script,
	}
	for name, value := range r.variables() {
		args = append(args, "--define="+name+"="+value)
	}
	cmd := exec.CommandContext(ctx, program, append(args, r.databaseURL)...) //nolint:gosec // PostgreSQL's own program
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return pgbenchResult{}, fmt.Errorf("pgbench: %w: %s", err, failed.String())
	}
	return readPgbench(out.String())
}

func readPgbench(report string) (pgbenchResult, error) {
	number := func(line *regexp.Regexp) (n float64) {
		if found := line.FindStringSubmatch(report); found != nil {
			n, _ = strconv.ParseFloat(found[1], 64)
		}
		return n
	}
	result := pgbenchResult{
		perSecond: number(perSecondLine), messages: int(number(countLine)),
	}
	if result.perSecond == 0 || number(failedLine) > 0 {
		return result, fmt.Errorf("pgbench reports no clean run:\n%s", report)
	}
	return result, nil
}

// variables are the values that are the same for every message.
func (r pgbenchRun) variables() map[string]string {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // an id, no secret
	return map[string]string{
		"organizations": strconv.Itoa(r.customers.Organizations), "chats": strconv.Itoa(r.customers.Chats),
		"begin": strconv.FormatInt(time.Now().UnixMilli(), 10), "n": "0",
		"kind": "waba", "channels": "[17]", "body": string(webhookBody(1, 1, newExternalID(random), time.Now())),
		"type": "text", "content": customerMessage, "from_me": "f", "name": customerName, "status": "received", "priority": "0",
		"events": "2", "event_names": "{message:new,chat:updated}", "event_data": textArray(r.probe.MessageEvent, r.probe.ChatEvent),
	}
}

// textArray writes PostgreSQL's form of an array.
func textArray(elements ...string) string {
	quoted := make([]string, len(elements))
	for i, element := range elements {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(element) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}
