package logserver

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
)

// addDiscovery says what there is. The only resource is the log: with one called
// pooledjobs, kubectl could take it for the PooledJobs.
func (s *Server) addDiscovery(mux *http.ServeMux) {
	version := metav1.GroupVersionForDiscovery{GroupVersion: Group + "/" + Version, Version: Version}
	group := metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroup"},
		Name:     Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
	}
	for path, object := range map[string]runtime.Object{
		"/apis": &metav1.APIGroupList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}, Groups: []metav1.APIGroup{group},
		},
		"/apis/" + Group: &group,
		"/apis/" + Group + "/" + Version: &metav1.APIResourceList{
			TypeMeta:     metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"},
			GroupVersion: version.GroupVersion,
			APIResources: []metav1.APIResource{{
				Name: resource + "/log", Namespaced: true, Kind: "PooledJob", Group: jobsGroup, Version: Version, Verbs: metav1.Verbs{"get"},
			}},
		},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			responsewriters.WriteObjectNegotiated(s.codecs, negotiation.DefaultEndpointRestrictions, schema.GroupVersion{Version: "v1"}, w, r, http.StatusOK, object, false)
		})
	}
}
