package deployments

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	// How telemetry declares a metric: through its helpers, or with the client library's options.
	declared = regexp.MustCompile(`(counters?|gauges?|histograms)\("([a-z_]+)", "[^"]*"((?:, "[a-z]+")*)\)`)
	scraped  = regexp.MustCompile(`NewDesc\("([a-z_]+)", "[^"]*", (nil|\[\]string\{[^}]*\}), nil\)`)
	options  = regexp.MustCompile(`(Histogram|Gauge|Counter)Opts\{\s*Name: "([a-z_]+)"`)
	// What a query reads: a metric and, maybe, its matchers.
	watched = regexp.MustCompile(`\b((?:switchboard|socketio|haproxy|process|go)_[a-z_]+|up)\b(?:\{([^}]*)\})?`)
	matcher = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"([^"]*)"`)
	grouped = regexp.MustCompile(`by \(([a-z, ]+)\)`)
)

// foreign are the metrics of others: Prometheus's own, HAProxy's, and those of the client library's collectors.
var foreign = map[string]bool{
	"up": true, "haproxy_server_status": true, "process_cpu_seconds_total": true, "process_resident_memory_bytes": true,
	"process_open_fds": true, "go_goroutines": true,
}

// exported reads the names and labels of our metrics out of their one source.
func exported(t *testing.T) map[string]map[string]bool {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "internal", "telemetry", "metrics.go"))
	require.NoError(t, err)
	metrics := map[string]map[string]bool{}
	add := func(name, labels string, histogram bool) {
		set := map[string]bool{"instance": true, "job": true}
		for _, label := range regexp.MustCompile(`[a-z]+`).FindAllString(labels, -1) {
			set[label] = true
		}
		if !histogram {
			metrics[name] = set
			return
		}
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			metrics[name+suffix] = set
		}
		set["le"] = true
	}
	for _, m := range declared.FindAllSubmatch(source, -1) {
		add(string(m[2]), string(m[3]), string(m[1]) == "histograms")
	}
	for _, m := range options.FindAllSubmatch(source, -1) {
		add(string(m[2]), "", string(m[1]) == "Histogram")
	}
	for _, m := range scraped.FindAllSubmatch(source, -1) {
		labels := string(m[2])
		if labels == "nil" {
			labels = ""
		}
		add(string(m[1]), strings.TrimPrefix(labels, "[]string"), false)
	}
	require.Greater(t, len(metrics), 20, "the declarations are written in another way now: change this test")
	return metrics
}

// expressions collects every query of a decoded document: the values under "expr".
func expressions(value any) []string {
	var found []string
	switch v := value.(type) {
	case map[string]any:
		for key, child := range v {
			if text, isText := child.(string); isText && key == "expr" {
				found = append(found, text)
				continue
			}
			found = append(found, expressions(child)...)
		}
	case []any:
		for _, child := range v {
			found = append(found, expressions(child)...)
		}
	}
	return found
}

func TestWatchedMetricsAreExported(t *testing.T) {
	metrics := exported(t)
	dashboard, err := os.ReadFile(filepath.Join("grafana", "switchboard.json"))
	require.NoError(t, err)
	var board map[string]any
	require.NoError(t, json.Unmarshal(dashboard, &board))
	sources := map[string][]string{
		"alerts.yml":       expressions(parse(t, "prometheus/alerts.yml")[0]),
		"switchboard.json": expressions(board),
	}
	seen := map[string]bool{}
	for file, queries := range sources {
		require.Greater(t, len(queries), 15, file)
		for _, query := range queries {
			checkQuery(t, file, query, metrics)
			for _, m := range watched.FindAllStringSubmatch(query, -1) {
				seen[family(m[1])] = true
			}
		}
	}
	for metric := range metrics {
		require.True(t, seen[family(metric)], "%s is neither on the dashboard nor in an alert", metric)
	}
}

// family is a metric's name without what a histogram's series add.
func family(metric string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		metric = strings.TrimSuffix(metric, suffix)
	}
	return metric
}

// What is exported is watched or documented on purpose: the table of docs/operations.md has each metric with its labels, and no
// other.
func TestDocumentedMetricsAreExported(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| (`(?:switchboard|socketio)_[^|]*)\\|([^|]*)\\|").FindAllSubmatch(text, -1)
	require.Greater(t, len(rows), 15)
	code := regexp.MustCompile("`([a-z_]+)`")
	documented := map[string]bool{}
	metrics := exported(t)
	for _, row := range rows {
		inRow := map[string]bool{}
		for _, name := range code.FindAllSubmatch(row[1], -1) {
			metric := string(name[1])
			require.False(t, documented[metric], "%s has two rows", metric)
			documented[metric] = true
			labels := metrics[metric]
			if labels == nil {
				labels = metrics[metric+"_bucket"]
			}
			require.NotNil(t, labels, "docs/operations.md has a metric that is not exported: %s", metric)
			for label := range labels {
				inRow[label] = true
			}
		}
		for _, label := range code.FindAllSubmatch(row[2], -1) {
			require.True(t, inRow[string(label[1])], "%s: no label %s", row[1], label[1])
			delete(inRow, string(label[1]))
		}
		for label := range inRow {
			require.Contains(t, []string{"instance", "job", "le"}, label, "%s: a label without a word", row[1])
		}
	}
	for metric := range metrics {
		require.True(t, documented[family(metric)], "%s is exported and not in docs/operations.md", metric)
	}
}

func checkQuery(t *testing.T, file, query string, metrics map[string]map[string]bool) {
	t.Helper()
	known := map[string]bool{}
	for _, m := range watched.FindAllStringSubmatch(query, -1) {
		if foreign[m[1]] {
			return // labels of others are theirs
		}
		labels, found := metrics[m[1]]
		require.True(t, found, "%s: no metric %s: %s", file, m[1], query)
		for label := range labels {
			known[label] = true
		}
		for _, match := range matcher.FindAllStringSubmatch(m[2], -1) {
			require.True(t, labels[match[1]], "%s: %s has no label %s", file, m[1], match[1])
		}
	}
	require.NotEmpty(t, known, "%s: a query without a metric: %s", file, query)
	for _, by := range grouped.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(by[1], ",") {
			require.True(t, known[strings.TrimSpace(label)], "%s: grouped by %s, which is no label there: %s", file, label, query)
		}
	}
}
