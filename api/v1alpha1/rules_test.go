package v1alpha1_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/pooledjob/pooledjob/test/localcluster"
)

// hub is a client for unstructured objects: nothing but the API server stands
// between these tests and the rules.
var hub client.Client

func TestMain(m *testing.M) {
	localcluster.ExitIfShort()
	code, err := withHub(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withHub(run func() int) (int, error) {
	cluster, err := localcluster.Start(context.Background(), localcluster.Options{Name: "rules"})
	if err != nil {
		return 1, err
	}
	defer func() { _ = cluster.Stop() }()
	crds := envtest.CRDInstallOptions{Paths: []string{filepath.Join("..", "..", "config", "crd")}, ErrorIfPathMissing: true}
	if _, err := envtest.InstallCRDs(cluster.Config(), crds); err != nil {
		return 1, err
	}
	if hub, err = client.New(cluster.Config(), client.Options{}); err != nil {
		return 1, err
	}
	return run(), nil
}

const goodJob = `
apiVersion: pooledjob.io/v1alpha1
kind: PooledJob
metadata: {namespace: default, generateName: rule-}
spec:
  clusterName: target
  targetNamespace: etl
  dispatchDeadlineSeconds: 600
  deletionPolicy: Delete
  template:
    metadata: {labels: {app: etl}}
    spec:
      backoffLimit: 0
      template:
        metadata: {labels: {tier: batch}, annotations: {note: kept}}
        spec:
          restartPolicy: Never
          containers: [{name: main, image: busybox, ports: [{containerPort: 80}]}]
`

const goodSelection = `
apiVersion: pooledjob.io/v1alpha1
kind: PooledJob
metadata: {namespace: default, generateName: rule-}
spec:
  clusterSelector: {matchLabels: {env: prod}, matchExpressions: [{key: region, operator: In, values: [eu]}]}
  failover: {afterSeconds: 300}
  suspend: true
  cancel: true
  ttlSecondsAfterFinished: 60
  template: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox}]}}}}
`

const goodConnection = `
apiVersion: pooledjob.io/v1alpha1
kind: ClusterConnection
metadata: {generateName: rule-}
spec:
  kubeconfigSecretRef: {name: target, key: kubeconfig}
  access:
  - hubNamespaces: {matchLabels: {team: a}}
    targetNamespaces: {names: [etl]}
`

// change is a path in an object and the value to put there; nil removes it.
type change struct {
	path  string
	value any
}

func object(t *testing.T, document string, changes ...change) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
		t.Fatal(err)
	}
	apply(t, obj, changes...)
	return obj
}

func apply(t *testing.T, obj *unstructured.Unstructured, changes ...change) {
	t.Helper()
	for _, c := range changes {
		fields := strings.Split(c.path, ".")
		if c.value == nil {
			unstructured.RemoveNestedField(obj.Object, fields...)
		} else if err := unstructured.SetNestedField(obj.Object, c.value, fields...); err != nil {
			t.Fatal(err)
		}
	}
}

func create(obj *unstructured.Unstructured) error {
	return hub.Create(context.Background(), obj, client.FieldValidation("Strict"))
}

func long(n int) string { return strings.Repeat("a", n) }

// template is the path of the Job's spec, pod that of its Pods' spec.
const (
	template = "spec.template.spec"
	pod      = template + ".template.spec"
)

func TestAccepted(t *testing.T) {
	tests := map[string]struct {
		document string
		changes  []change
	}{
		"everything":                       {goodJob, nil},
		"only what is required":            {goodJob, []change{{"spec.targetNamespace", nil}, {"spec.dispatchDeadlineSeconds", nil}, {"spec.deletionPolicy", nil}}},
		"orphan":                           {goodJob, []change{{"spec.deletionPolicy", "Orphan"}}},
		"OnFailure":                        {goodJob, []change{{pod + ".restartPolicy", "OnFailure"}}},
		"longest cluster name":             {goodJob, []change{{"spec.clusterName", long(253)}}},
		"longest target namespace":         {goodJob, []change{{"spec.targetNamespace", long(63)}}},
		"shortest deadline":                {goodJob, []change{{"spec.dispatchDeadlineSeconds", int64(1)}}},
		"longest deadline":                 {goodJob, []change{{"spec.dispatchDeadlineSeconds", int64(31536000)}}},
		"a selector":                       {goodJob, []change{{"spec.clusterName", nil}, {"spec.clusterSelector", map[string]any{"matchLabels": map[string]any{"env": "prod"}}}}},
		"any cluster, with failover":       {goodJob, []change{{"spec.clusterName", nil}, {"spec.clusterSelector", map[string]any{}}, {"spec.failover", map[string]any{"afterSeconds": int64(1)}}}},
		"suspended":                        {goodJob, []change{{"spec.suspend", true}}},
		"cancelled from the start":         {goodJob, []change{{"spec.cancel", true}}},
		"gone at once":                     {goodJob, []change{{"spec.ttlSecondsAfterFinished", int64(0)}}},
		"connection":                       {goodConnection, nil},
		"connection open to nobody":        {goodConnection, []change{{"spec.access", nil}}},
		"connection with the default key":  {goodConnection, []change{{"spec.kubeconfigSecretRef.key", nil}}},
		"connection open to all, same":     {goodConnection, []change{{"spec.access", rules(map[string]any{"same": true})}}},
		"connection with the most rules":   {goodConnection, []change{{"spec.access", repeat(rules(map[string]any{"same": true})[0], 64)}}},
		"connection with the most targets": {goodConnection, []change{{"spec.access", rules(map[string]any{"names": numbered(64)})}}},
		"one namespace":                    {goodConnection, []change{{"spec.namespaces", []any{"etl"}}}},
		"the most namespaces":              {goodConnection, []change{{"spec.access", repeat(rules(map[string]any{"names": numbered(50)})[0], 64)}, {"spec.namespaces", numbered(50)}}},
		"longest namespace":                {goodConnection, []change{{"spec.namespaces", []any{"etl", long(63)}}}},
		"namespaces, open to nobody":       {goodConnection, []change{{"spec.access", nil}, {"spec.namespaces", []any{"etl"}}}},
		"namespaces, same":                 {goodConnection, []change{{"spec.access", rules(map[string]any{"same": true})}, {"spec.namespaces", []any{"etl"}}}},
		"never idle":                       {goodConnection, []change{{"spec.idleTimeoutSeconds", int64(0)}}},
		"longest idle timeout":             {goodConnection, []change{{"spec.idleTimeoutSeconds", int64(2592000)}}},
		"least in flight":                  {goodConnection, []change{{"spec.maxInFlight", int64(1)}}},
		"most in flight":                   {goodConnection, []change{{"spec.maxInFlight", int64(90)}}},
		"least qps":                        {goodConnection, []change{{"spec.qps", int64(1)}}},
		"most qps":                         {goodConnection, []change{{"spec.qps", int64(10000)}}},
		"shortest life of tokens":          {goodConnection, []change{{"spec.tokenRenewal", map[string]any{"lifetimeSeconds": int64(600)}}}},
		"longest life of tokens":           {goodConnection, []change{{"spec.tokenRenewal", map[string]any{"lifetimeSeconds": int64(31536000)}}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := create(object(t, test.document, test.changes...)); err != nil {
				t.Error(err)
			}
		})
	}
}

func rules(targets map[string]any) []any {
	return []any{map[string]any{"hubNamespaces": map[string]any{}, "targetNamespaces": targets}}
}

// selecting is a rule with the given selector.
func selecting(selector map[string]any) []any {
	return []any{map[string]any{"hubNamespaces": selector, "targetNamespaces": map[string]any{"same": true}}}
}

func repeat(value any, n int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = value
	}
	return all
}

func numbered(n int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = fmt.Sprintf("n%d", i)
	}
	return all
}

func TestRefused(t *testing.T) {
	tests := map[string]struct {
		document string
		change   change
		want     string
	}{
		"no cluster":               {goodJob, change{"spec.clusterName", nil}, "exactly one of the fields in [clusterName clusterSelector] must be set"},
		"empty cluster":            {goodJob, change{"spec.clusterName", ""}, "spec.clusterName"},
		"long cluster":             {goodJob, change{"spec.clusterName", long(254)}, "spec.clusterName: Too long"},
		"bad target namespace":     {goodJob, change{"spec.targetNamespace", "Team.A"}, "spec.targetNamespace must be a namespace name"},
		"long target namespace":    {goodJob, change{"spec.targetNamespace", long(64)}, "spec.targetNamespace: Too long"},
		"unknown deletion policy":  {goodJob, change{"spec.deletionPolicy", "Keep"}, `supported values: "Delete", "Orphan"`},
		"no time to dispatch":      {goodJob, change{"spec.dispatchDeadlineSeconds", int64(0)}, "greater than or equal to 1"},
		"too long to dispatch":     {goodJob, change{"spec.dispatchDeadlineSeconds", int64(31536001)}, "less than or equal to 31536000"},
		"no template":              {goodJob, change{"spec.template", nil}, "spec.template: Required value"},
		"no Job spec":              {goodJob, change{template, nil}, "spec.template.spec is required"},
		"TTL":                      {goodJob, change{template + ".ttlSecondsAfterFinished", int64(1)}, "spec.template.spec.ttlSecondsAfterFinished must not be set"},
		"suspend":                  {goodJob, change{template + ".suspend", false}, "spec.template.spec.suspend must not be set"},
		"managedBy":                {goodJob, change{template + ".managedBy", "x.io/y"}, "spec.template.spec.managedBy must not be set"},
		"selector":                 {goodJob, change{template + ".selector", map[string]any{}}, "spec.template.spec.selector must not be set"},
		"manual selector":          {goodJob, change{template + ".manualSelector", true}, "spec.template.spec.manualSelector must not be set"},
		"no restart policy":        {goodJob, change{pod + ".restartPolicy", nil}, "restartPolicy must be Never or OnFailure"},
		"restart for ever":         {goodJob, change{pod + ".restartPolicy", "Always"}, "restartPolicy must be Never or OnFailure"},
		"no Pod spec":              {goodJob, change{pod, nil}, "restartPolicy must be Never or OnFailure"},
		"a name for the Job":       {goodJob, change{"spec.template.metadata.name", "mine"}, "spec.template.metadata may hold labels and annotations only"},
		"a namespace for the Job":  {goodJob, change{"spec.template.metadata.namespace", "mine"}, "spec.template.metadata may hold labels and annotations only"},
		"a finalizer for the Job":  {goodJob, change{"spec.template.metadata.finalizers", []any{"a.io/b"}}, "spec.template.metadata may hold labels and annotations only"},
		"our label on the Job":     {goodJob, change{"spec.template.metadata.labels", map[string]any{"pooledjob.io/uid": "x"}}, "spec.template.metadata.labels must not use pooledjob.io/"},
		"our label on the Pods":    {goodJob, change{template + ".template.metadata.labels", map[string]any{"pooledjob.io/hub": "x"}}, "spec.template.spec.template.metadata.labels must not use pooledjob.io/"},
		"misspelt field":           {goodJob, change{pod + ".contanier", []any{}}, `unknown field "spec.template.spec.template.spec.contanier"`},
		"misspelt field of ours":   {goodJob, change{"spec.cluster", "x"}, `unknown field "spec.cluster"`},
		"name and selector":        {goodJob, change{"spec.clusterSelector", map[string]any{}}, "exactly one of the fields in [clusterName clusterSelector] must be set"},
		"selector, bad operator":   {goodSelection, change{"spec.clusterSelector.matchExpressions", []any{map[string]any{"key": "a", "operator": "Near"}}}, `supported values: "In", "NotIn", "Exists", "DoesNotExist"`},
		"failover without choice":  {goodJob, change{"spec.failover", map[string]any{"afterSeconds": int64(5)}}, "spec.failover needs spec.clusterSelector"},
		"failover at no time":      {goodSelection, change{"spec.failover", map[string]any{}}, "spec.failover.afterSeconds: Required value"},
		"failover at once":         {goodSelection, change{"spec.failover", map[string]any{"afterSeconds": int64(0)}}, "greater than or equal to 1"},
		"failover after ever":      {goodSelection, change{"spec.failover", map[string]any{"afterSeconds": int64(31536001)}}, "less than or equal to 31536000"},
		"negative TTL":             {goodJob, change{"spec.ttlSecondsAfterFinished", int64(-1)}, "greater than or equal to 0"},
		"no Secret":                {goodConnection, change{"spec.kubeconfigSecretRef", nil}, "spec.kubeconfigSecretRef: Required value"},
		"no Secret name":           {goodConnection, change{"spec.kubeconfigSecretRef.name", nil}, "spec.kubeconfigSecretRef.name: Required value"},
		"empty key":                {goodConnection, change{"spec.kubeconfigSecretRef.key", ""}, "spec.kubeconfigSecretRef.key"},
		"empty access":             {goodConnection, change{"spec.access", []any{}}, "spec.access"},
		"too much access":          {goodConnection, change{"spec.access", repeat(rules(map[string]any{"same": true})[0], 65)}, "spec.access: Too many"},
		"no targets":               {goodConnection, change{"spec.access", rules(map[string]any{})}, "exactly one of the fields in [same names] must be set"},
		"two kinds of targets":     {goodConnection, change{"spec.access", rules(map[string]any{"same": true, "names": []any{"a"}})}, "exactly one of the fields in [same names] must be set"},
		"not the same":             {goodConnection, change{"spec.access", rules(map[string]any{"same": false})}, `supported values: "true"`},
		"too many targets":         {goodConnection, change{"spec.access", rules(map[string]any{"names": numbered(65)})}, "Too many"},
		"no hub namespaces":        {goodConnection, change{"spec.access", []any{map[string]any{"targetNamespaces": map[string]any{"same": true}}}}, "hubNamespaces: Required value"},
		"selector that can't work": {goodConnection, change{"spec.access", selecting(map[string]any{"matchExpressions": []any{map[string]any{"key": "a", "operator": "Near"}}})}, `supported values: "In", "NotIn", "Exists", "DoesNotExist"`},
		"selector with a bad key":  {goodConnection, change{"spec.access", selecting(map[string]any{"matchExpressions": []any{map[string]any{"key": "a b", "operator": "Exists"}}})}, "key in body should match"},
		"selector, bad value":      {goodConnection, change{"spec.access", selecting(map[string]any{"matchExpressions": []any{map[string]any{"key": "a", "operator": "In", "values": []any{"b c"}}}})}, "values[0] in body should match"},
		"bad target name":          {goodConnection, change{"spec.access", rules(map[string]any{"names": []any{"Team_A"}})}, "names[0] in body should match"},
		"empty namespaces":         {goodConnection, change{"spec.namespaces", []any{}}, "spec.namespaces in body should have at least 1 items"},
		"too many namespaces":      {goodConnection, change{"spec.namespaces", append(numbered(50), "etl")}, "spec.namespaces: Too many"},
		"a namespace twice":        {goodConnection, change{"spec.namespaces", []any{"etl", "etl"}}, "spec.namespaces[1]: Duplicate value"},
		"bad namespace":            {goodConnection, change{"spec.namespaces", []any{"etl", "Team_A"}}, "spec.namespaces[1] in body should match"},
		"empty namespace":          {goodConnection, change{"spec.namespaces", []any{"etl", ""}}, "spec.namespaces[1]"},
		"long namespace":           {goodConnection, change{"spec.namespaces", []any{"etl", long(64)}}, "spec.namespaces[1]: Too long"},
		"access beyond namespaces": {goodConnection, change{"spec.namespaces", []any{"batch"}}, "spec.access[].targetNamespaces.names must be among spec.namespaces"},
		"negative idle timeout":    {goodConnection, change{"spec.idleTimeoutSeconds", int64(-1)}, "greater than or equal to 0"},
		"long idle timeout":        {goodConnection, change{"spec.idleTimeoutSeconds", int64(2592001)}, "less than or equal to 2592000"},
		"nothing in flight":        {goodConnection, change{"spec.maxInFlight", int64(0)}, "spec.maxInFlight in body should be greater than or equal to 1"},
		"too much in flight":       {goodConnection, change{"spec.maxInFlight", int64(91)}, "less than or equal to 90"},
		"no qps":                   {goodConnection, change{"spec.qps", int64(0)}, "spec.qps in body should be greater than or equal to 1"},
		"too many qps":             {goodConnection, change{"spec.qps", int64(10001)}, "less than or equal to 10000"},
		"renewal without a life":   {goodConnection, change{"spec.tokenRenewal", map[string]any{}}, "spec.tokenRenewal.lifetimeSeconds: Required value"},
		"renewal for no time":      {goodConnection, change{"spec.tokenRenewal", map[string]any{"lifetimeSeconds": int64(599)}}, "spec.tokenRenewal.lifetimeSeconds in body should be greater than or equal to 600"},
		"renewal for ever":         {goodConnection, change{"spec.tokenRenewal", map[string]any{"lifetimeSeconds": int64(31536001)}}, "less than or equal to 31536000"},
		"selector without values":  {goodConnection, change{"spec.access", selecting(map[string]any{"matchExpressions": []any{map[string]any{"key": "a", "operator": "In"}}})}, "values must be given for In and NotIn"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { expectRefusal(t, create(object(t, test.document, test.change)), test.want) })
	}
}

func expectRefusal(t *testing.T, err error, want string) {
	t.Helper()
	if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("refused with %q, want %q", err, want)
	}
}

func TestStatusOfConnection(t *testing.T) {
	obj := object(t, goodConnection)
	if err := create(obj); err != nil {
		t.Fatal(err)
	}
	update := func(changes ...change) error {
		changed := obj.DeepCopy()
		apply(t, changed, changes...)
		return hub.Status().Update(context.Background(), changed, client.FieldValidation("Strict"))
	}
	refused := map[string]struct {
		change change
		want   string
	}{
		"hash of another kind":    {change{"status.identityHash", "sha512:" + long(64)}, "identityHash in body should match"},
		"hash that is not hex":    {change{"status.identityHash", "sha256:" + strings.Repeat("G", 64)}, "identityHash in body should match"},
		"short hash":              {change{"status.identityHash", "sha256:" + long(63)}, "status.identityHash"},
		"long hash":               {change{"status.identityHash", "sha256:" + long(65)}, "status.identityHash: Too long"},
		"expiry that is no time":  {change{"status.credentialsExpireAt", "tomorrow"}, "status.credentialsExpireAt"},
		"expiry that is a number": {change{"status.credentialsExpireAt", int64(1700000000)}, "status.credentialsExpireAt"},
	}
	for name, test := range refused {
		t.Run(name, func(t *testing.T) { expectRefusal(t, update(test.change), test.want) })
	}
	err := update(
		change{"status.identityHash", "sha256:" + strings.Repeat("0123456789abcdef", 4)},
		change{"status.credentialsExpireAt", "2026-03-04T10:20:30Z"})
	if err != nil {
		t.Error(err)
	}
}

func TestOneRunIsOneObject(t *testing.T) {
	immutable := map[string]struct {
		document string
		change   change
	}{
		"spec.clusterName cannot be changed":                             {goodJob, change{"spec.clusterName", "other"}},
		"spec.clusterName and spec.clusterSelector cannot be exchanged":  {goodJob, change{"spec.clusterName", nil}},
		"spec.clusterSelector cannot be changed; a new run is a new":     {goodSelection, change{"spec.clusterSelector.matchLabels", nil}},
		"spec.failover cannot be changed; a new run is a new":            {goodSelection, change{"spec.failover.afterSeconds", int64(5)}},
		"spec.failover cannot be added or removed":                       {goodSelection, change{"spec.failover", nil}},
		"spec.cancel cannot be taken back; a new run is a new PooledJob": {goodSelection, change{"spec.cancel", false}},
		"spec.cancel cannot be taken back":                               {goodSelection, change{"spec.cancel", nil}},
		"spec.targetNamespace cannot be changed":                         {goodJob, change{"spec.targetNamespace", "other"}},
		"spec.targetNamespace cannot be added or removed":                {goodJob, change{"spec.targetNamespace", nil}},
		"spec.dispatchDeadlineSeconds cannot be changed":                 {goodJob, change{"spec.dispatchDeadlineSeconds", int64(5)}},
		"spec.dispatchDeadlineSeconds cannot be added or removed":        {goodJob, change{"spec.dispatchDeadlineSeconds", nil}},
		"spec.template cannot be changed; a new run is a new Pooled":     {goodJob, change{template + ".backoffLimit", int64(5)}},
	}
	for want, test := range immutable {
		t.Run(want, func(t *testing.T) {
			obj := object(t, test.document)
			if err := create(obj); err != nil {
				t.Fatal(err)
			}
			apply(t, obj, test.change)
			if want == "spec.clusterName and spec.clusterSelector cannot be exchanged" {
				apply(t, obj, change{"spec.clusterSelector", map[string]any{}})
			}
			expectRefusal(t, hub.Update(context.Background(), obj), want)
		})
	}
	mutable := map[string][]any{
		"spec.deletionPolicy":          {"Orphan", nil, "Delete"},
		"spec.suspend":                 {true, false, nil, true},
		"spec.cancel":                  {false, true, true},
		"spec.ttlSecondsAfterFinished": {int64(0), int64(5), nil},
	}
	for path, values := range mutable {
		t.Run(path+" may change", func(t *testing.T) {
			obj := object(t, goodJob)
			if err := create(obj); err != nil {
				t.Fatal(err)
			}
			for _, value := range values {
				apply(t, obj, change{path, value})
				if err := hub.Update(context.Background(), obj); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestTemplateIsKeptAsWritten(t *testing.T) {
	obj := object(t, goodJob)
	if err := create(obj); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"spec.template.metadata.labels.app":              "etl",
		template + ".template.metadata.labels.tier":      "batch",
		template + ".template.metadata.annotations.note": "kept",
	} {
		got, _, err := unstructured.NestedString(obj.Object, strings.Split(path, ".")...)
		if err != nil || got != want {
			t.Errorf("%s = %q (%v), want %q", path, got, err, want)
		}
	}
}
