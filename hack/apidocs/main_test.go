package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const crd = `spec:
  group: pooledjob.io
  names: {kind: Thing}
  scope: Namespaced
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        description: Thing is a thing.
        properties:
          spec:
            description: spec says what.
            properties:
              size: {type: integer, description: size is a | number.}
              tags:
                type: array
                description: tags are some.
                items: {type: string, enum: [a, b]}
              template:
                description: template is Kubernetes' own.
                type: object
                properties:
                  spec: {type: object, description: long, properties: {image: {type: string, description: longer}}}
            type: object
          status: {type: object, description: status says how.}
`

func write(t *testing.T, text string) (dir, page string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pooledjob.io_things.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, "api.md")
}

func TestThePageHasEveryFieldOfOurs(t *testing.T) {
	dir, page := write(t, crd)
	if err := run(dir, page); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(page)
	for _, want := range []string{
		"## Thing", "| `spec.size` | integer | size is a \\| number. |", "| `spec.tags` | list of `a`, `b` | tags are some. |",
		"| `spec.template` | object | template is Kubernetes' own. |", "| `status` | object | status says how. |",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %s:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "image") {
		t.Errorf("the page has fields of the template:\n%s", text)
	}
}

func TestOnlyTheTemplateLosesItsDescriptions(t *testing.T) {
	dir, page := write(t, crd)
	if err := run(dir, page); err != nil {
		t.Fatal(err)
	}
	finished, _ := os.ReadFile(filepath.Join(dir, "pooledjob.io_things.yaml"))
	for text, want := range map[string]bool{"size is a": true, "template is": true, "status says": true, "long": false, "longer": false} {
		if got := strings.Contains(string(finished), text); got != want {
			t.Errorf("%q is there: %v, want %v:\n%s", text, got, want, finished)
		}
	}
}

func TestAFieldWithoutADescriptionIsAnError(t *testing.T) {
	dir, page := write(t, strings.Replace(crd, "description: tags are some.", "maxItems: 3", 1))
	if err := run(dir, page); err == nil || !strings.Contains(err.Error(), "spec.tags has no description") {
		t.Errorf("error %v", err)
	}
}
