// Administration: what the operator of a server sees and does. One section at a time, by its address.

import "../styles/admin.css";
import "../styles/jobs.css";
import { useEffect } from "preact/hooks";
import type { ComponentType } from "preact";
import { asksForKey, managementKey, setManagementKey } from "../admin/access";
import { BatchesSection } from "../admin/BatchesSection";
import { BudgetsSection } from "../admin/BudgetsSection";
import { KeyDialog } from "../admin/KeyDialog";
import { KeysSection } from "../admin/KeysSection";
import { ModelsSection } from "../admin/ModelsSection";
import { ProvidersSection } from "../admin/ProvidersSection";
import { RequestsSection } from "../admin/RequestsSection";
import type { PageProperties } from "../shell/router";
import { setTitle } from "../shell/title";

const SECTIONS: { name: string; title: string; content: ComponentType }[] = [
  { name: "", title: "Models", content: ModelsSection },
  { name: "keys", title: "Keys", content: KeysSection },
  { name: "budgets", title: "Budgets", content: BudgetsSection },
  { name: "providers", title: "Providers", content: ProvidersSection },
  { name: "requests", title: "Requests", content: RequestsSection },
  { name: "batches", title: "Batches", content: BatchesSection },
];

export default function AdminPage({ rest }: PageProperties) {
  const section = SECTIONS.find(({ name }) => name === rest);
  const title = section ? `${section.title} · Admin` : "Admin";
  useEffect(() => setTitle(title), [title]);
  const Content = section?.content;
  return (
    <main class="page admin" id="content" tabIndex={-1}>
      <div class="row admin-head">
        <h1>Admin</h1>
        <span class="spring" />
        <button type="button" onClick={() => (asksForKey.value = true)}>{managementKey.value ? "Change management key" : "Management key"}</button>
        {managementKey.value && <button type="button" class="quiet" onClick={() => setManagementKey("")}>Forget it</button>}
      </div>
      <nav class="tabs" aria-label="Sections of administration">
        {SECTIONS.map(({ name, title: label }) => (
          <a key={name} href={name ? `/admin/${name}` : "/admin"} aria-current={name === rest ? "page" : undefined}>{label}</a>
        ))}
      </nav>
      {Content ? <Content /> : <p class="nothing">There is no section {rest} here.</p>}
      {asksForKey.value && <KeyDialog />}
    </main>
  );
}
