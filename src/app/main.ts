/**
 * The page's entry: styles, and the rest on demand. Nothing imports this module, since WebKit would evaluate it twice; and if the rest cannot be loaded,
 * this module tells the user.
 */
import '@awesome.me/webawesome/dist/styles/webawesome.css';
import './style.css';

await begin();

async function begin(): Promise<void> {
  let code: typeof import('./start.ts');
  try {
    code = await import('./start.ts');
  } catch {
    return tell('A part of this page could not be loaded: look at the network, and reload. There may be a newer version of the page.');
  }
  await code.start().catch((error: unknown) => tell(`${error instanceof Error ? error.message : String(error)}.`));
}

/** Replaces the first line of index.html. The link to go on needs no component. */
function tell(reason: string): void {
  const title = document.createElement('h1');
  title.textContent = 'tabdisk could not start';
  const text = document.createElement('p');
  text.textContent = `${reason} Your images are untouched.`;
  const again = document.createElement('a');
  again.href = './';
  again.dataset.testid = 'reload';
  again.textContent = 'Reload';
  document.getElementById('loading')?.replaceChildren(title, text, again);
}
