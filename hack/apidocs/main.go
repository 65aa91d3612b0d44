// Command apidocs finishes the generated CRDs and writes docs/api.md from them.
//
// controller-gen describes every field. Of spec.template, which is Kubernetes' own, the descriptions are taken
// out again: with them the CRD would be too large for kubectl apply, which keeps what was applied in an annotation.
// kubectl explain job.spec says the same. A field of ours without a description is an error.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// template is the field whose descriptions are Kubernetes' own.
const template = "spec.template"

func main() {
	if err := run("config/crd", "docs/api.md"); err != nil {
		fmt.Fprintln(os.Stderr, "apidocs:", err)
		os.Exit(1)
	}
}

// run finishes the CRDs in a directory, and writes the page.
func run(crds, page string) error {
	files, err := filepath.Glob(filepath.Join(crds, "pooledjob.io_*.yaml"))
	if err != nil || len(files) == 0 {
		return errors.Join(err, fmt.Errorf("there are no CRDs in %s", crds))
	}
	var out bytes.Buffer
	out.WriteString("# API reference\n\nGenerated from the types by `make generate`. `kubectl explain KIND.FIELD` says the same. What a field is for, with\n" +
		"examples, is on the pages of [ClusterConnection](clusterconnection.md) and [PooledJob](pooledjob.md).\n")
	for _, file := range files {
		crd, err := finish(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := document(&out, crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return os.WriteFile(page, out.Bytes(), 0o644) //nolint:gosec // it is a page
}

// object is a part of a YAML document.
type object = map[string]any

// finish takes the descriptions below the template out of a CRD.
func finish(file string) (object, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var crd object
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return nil, err
	}
	for _, version := range versionsOf(crd) {
		if spec := property(schemaOf(version), "spec"); spec != nil {
			if found := property(spec, "template"); found != nil {
				for _, below := range children(found) {
					strip(below.schema)
				}
			}
		}
	}
	finished, err := yaml.Marshal(crd)
	if err != nil {
		return nil, err
	}
	return crd, os.WriteFile(file, append([]byte("---\n"), finished...), 0o644) //nolint:gosec // it is a manifest
}

func versionsOf(crd object) (versions []object) {
	spec, _ := crd["spec"].(object)
	list, _ := spec["versions"].([]any)
	for _, item := range list {
		if version, ok := item.(object); ok {
			versions = append(versions, version)
		}
	}
	return versions
}

func schemaOf(version object) object {
	schema, _ := version["schema"].(object)
	root, _ := schema["openAPIV3Schema"].(object)
	return root
}

func property(schema object, name string) object {
	properties, _ := schema["properties"].(object)
	found, _ := properties[name].(object)
	return found
}

// child is a schema below another one.
type child struct {
	name   string // with what stands before it
	schema object
}

// children are the schemas right below one, in the order of their names.
func children(schema object) (below []child) {
	properties, _ := schema["properties"].(object)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if found, ok := properties[name].(object); ok {
			below = append(below, child{"." + name, found})
		}
	}
	if items, ok := schema["items"].(object); ok {
		below = append(below, child{"[]", items})
	}
	if values, ok := schema["additionalProperties"].(object); ok {
		below = append(below, child{".KEY", values})
	}
	return below
}

// strip takes all descriptions out of a schema.
func strip(schema object) {
	delete(schema, "description")
	for _, below := range children(schema) {
		strip(below.schema)
	}
}

// document writes the fields of a CRD's Kind.
func document(out *bytes.Buffer, crd object) error {
	spec, _ := crd["spec"].(object)
	names, _ := spec["names"].(object)
	for _, version := range versionsOf(crd) {
		root := schemaOf(version)
		fmt.Fprintf(out, "\n## %s\n\n`%s/%s`, %s. %s\n\n| field | type | meaning |\n|---|---|---|\n",
			names["kind"], spec["group"], version["name"], spec["scope"], text(root))
		for _, part := range []string{"spec", "status"} {
			if err := fields(out, part, property(root, part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fields writes a field and those below it.
func fields(out *bytes.Buffer, path string, schema object) error {
	isElement := strings.HasSuffix(path, "[]") || strings.HasSuffix(path, ".KEY")
	if !isElement {
		if text(schema) == "" {
			return fmt.Errorf("%s has no description", path)
		}
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", path, typeOf(schema), text(schema))
	}
	if path == template {
		return nil
	}
	for _, below := range children(schema) {
		if err := fields(out, path+below.name, below.schema); err != nil {
			return err
		}
	}
	return nil
}

// typeOf is the type of a field in words.
func typeOf(schema object) string {
	kind := cmp.Or(fmt.Sprint(schema["type"]), "any")
	if items, ok := schema["items"].(object); ok {
		kind = "list of " + typeOf(items)
	} else if values, ok := schema["additionalProperties"].(object); ok {
		kind = "map of " + typeOf(values)
	}
	if values, ok := schema["enum"].([]any); ok {
		words := make([]string, 0, len(values))
		for _, value := range values {
			words = append(words, fmt.Sprintf("`%v`", value))
		}
		kind = strings.Join(words, ", ")
	}
	return kind
}

// text is a description in one line of a table.
func text(schema object) string {
	description, _ := schema["description"].(string)
	return strings.ReplaceAll(strings.Join(strings.Fields(description), " "), "|", `\|`)
}
