/**
 * The page's entry: looks, and the rest on demand. Nothing imports this module, since WebKit would evaluate it twice; and where the rest cannot be had, it is
 * here to say so.
 */
import '@awesome.me/webawesome/dist/styles/webawesome.css';
import './style.css';

try {
  const { start } = await import('./start.ts');
  await start();
} catch (error) {
  tell(error);
}

/** In place of the line that index.html begins with. The ways on are links and need no component. */
function tell(error: unknown): void {
  const title = document.createElement('h1');
  title.textContent = 'tabdisk could not start';
  const text = document.createElement('p');
  const reason = error instanceof Error ? error.message : String(error);
  text.textContent = `${reason}. Your images are untouched. Look at the network and reload: there may be a newer version of the page.`;
  const again = document.createElement('a');
  again.href = './';
  again.dataset.testid = 'reload';
  again.textContent = 'Reload';
  const loading = document.getElementById('loading');
  loading?.replaceChildren(title, text, again);
}
