package deployments

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// written by the bench, which may not have run yet.
var generated = map[string]bool{filepath.Join("..", "docs", "performance.md"): true}

// TestLinksOfDocumentsLead follows every relative link of the documents, to its heading too.
func TestLinksOfDocumentsLead(t *testing.T) {
	documents, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	documents = append(documents, "../README.md", "../CHANGELOG.md", "redis/README.md")
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	checked := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, m := range link.FindAllSubmatch(text, -1) {
			target, heading, _ := strings.Cut(string(m[1]), "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := document
			if target != "" {
				path = filepath.Join(filepath.Dir(document), target)
			}
			if generated[path] {
				continue
			}
			checked++
			_, err := os.Stat(path)
			require.NoError(t, err, "%s links to %s", document, m[1])
			if heading != "" {
				require.Contains(t, headings(t, path), heading, "%s links to %s", document, m[1])
			}
		}
	}
	require.Greater(t, checked, 20)
}

// headings are the anchors of a document, as GitHub makes them.
func headings(t *testing.T, path string) []string {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllSubmatch(text, -1) {
		anchor := strings.ToLower(regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(string(m[1]), ""))
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}
